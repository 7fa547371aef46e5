// Package enginetest holds the tests that every engine of shared limits must
// pass.
//
//	enginetest.Run(t, func(t *testing.T) lease.Engine { ... })
//
// The engines it is given may be one and the same: each test uses keys of its
// own. An engine's time is moved by [lease.Request].Latest, so that hours pass
// at once; what an engine forgets by its own clock must stay within
// [lease.AccountLife].
package enginetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// Run tests an engine that open opens and which the test may close at its end.
func Run(t *testing.T, open func(t *testing.T) lease.Engine) {
	t.Run("like an account", func(t *testing.T) { likeAccount(t, open(t)) })
	t.Run("many at once", func(t *testing.T) { manyAtOnce(t, open(t)) })
	t.Run("one exchange for many keys", func(t *testing.T) { manyKeys(t, open(t)) })
	t.Run("a context that is done", func(t *testing.T) { contextDone(t, open(t)) })
	t.Run("replicas are counted", func(t *testing.T) { countsReplicas(t, open(t)) })
}

func newKey() apikey.KeyID { return apikey.KeyID(rand.Int64N(1 << 53)) }

func exchange(t testing.TB, engine lease.Engine, r lease.Request) lease.Grant {
	t.Helper()
	grants := make([]lease.Grant, 1)
	if err := engine.Exchange(context.Background(), []lease.Request{r}, grants); err != nil {
		t.Fatal(err)
	}
	if grants[0].Err != nil {
		t.Fatal(grants[0].Err)
	}
	return grants[0]
}

// likeAccount takes generated requests to an engine and an account, which must
// answer alike.
func likeAccount(t *testing.T, engine lease.Engine) {
	rapid.Check(t, func(rt *rapid.T) {
		account, key := lease.Account{}, newKey()
		at := time.Now().Add(-20 * time.Hour).UnixMilli()
		numbers := uint64(0)
		for range rapid.IntRange(1, 30).Draw(rt, "requests") {
			at += rapid.SampledFrom([]int64{0, 1, 17, 900, 30_000, 59_999, 60_000, 61_000, 600_000, 3_540_000, 3_660_000, 5_000_000}).Draw(rt, "passes")
			if at > time.Now().Add(-time.Minute).UnixMilli() {
				return
			}
			numbers++
			r := lease.Request{
				Key:    key,
				Limit:  rapid.SampledFrom([]uint32{1, 2, 63, 64, 100, 5000, apikey.MaxRateLimit}).Draw(rt, "limit"),
				Lease:  lease.ID{Replica: 1<<63 + 5, Number: numbers},
				Tokens: rapid.SampledFrom([]uint32{0, 1, 2, 50, 100, apikey.MaxRateLimit}).Draw(rt, "tokens"),
				Span:   time.Duration(rapid.SampledFrom([]int64{1000, 5000, 60_000}).Draw(rt, "span")) * time.Millisecond,
				Latest: at + rapid.SampledFrom([]int64{0, 0, -5000}).Draw(rt, "late"),
			}
			r.Farthest = r.Latest + rapid.SampledFrom([]int64{0, 0, 400, 50_000, -3000}).Draw(rt, "farther")
			switch rapid.IntRange(0, 9).Draw(rt, "seen") {
			case 0:
				r.Seen = account.Total + 3
			case 1, 2:
				r.Seen = account.Total
			}
			for range rapid.IntRange(0, 3).Draw(rt, "back") {
				r.Back = append(r.Back, lease.Back{
					Lease:  lease.ID{Replica: 1<<63 + rapid.SampledFrom([]uint64{5, 5, 5, 6}).Draw(rt, "of"), Number: numbers - min(numbers, rapid.Uint64Range(1, 4).Draw(rt, "number"))},
					Unused: rapid.SampledFrom([]uint32{0, 1, 7, 100, apikey.MaxRateLimit}).Draw(rt, "unused"),
				})
			}
			want := account.Exchange(&r, max(r.Latest, r.Farthest), "")
			got := exchange(t, engine, r)
			if got.Time < want.Time {
				rt.Fatalf("the engine's clock shows %d, which is before %d", got.Time, want.Time)
			}
			if got.Time = want.Time; got != want {
				rt.Fatalf("request %+v:\ngot  %+v\nwant %+v", r, got, want)
			}
		}
	})
}

// manyAtOnce lets requests for few keys race.
func manyAtOnce(t *testing.T, engine lease.Engine) {
	const perHour, callers = 1000, 8
	keys := []apikey.KeyID{newKey(), newKey(), newKey()}
	var granted [3]atomic.Int64
	var group sync.WaitGroup
	for caller := range uint64(callers) {
		group.Go(func() {
			requests, grants := make([]lease.Request, len(keys)), make([]lease.Grant, len(keys))
			for i := range uint64(30) {
				for k := range keys {
					requests[k] = lease.Request{Key: keys[k], Limit: perHour, Tokens: 5, Span: time.Minute, Lease: lease.ID{Replica: caller, Number: i*3 + uint64(k)}}
				}
				if err := engine.Exchange(context.Background(), requests, grants); err != nil {
					t.Error(err)
					return
				}
				for k := range keys {
					if grants[k].Err != nil {
						t.Error(grants[k].Err)
					}
					granted[k].Add(int64(grants[k].Tokens))
				}
			}
		})
	}
	group.Wait()
	for k := range keys {
		if n := granted[k].Load(); n != perHour {
			t.Errorf("%d tokens were granted of %d", n, perHour)
		}
	}
}

func manyKeys(t *testing.T, engine lease.Engine) {
	requests, grants := make([]lease.Request, 200), make([]lease.Grant, 200)
	for i := range requests {
		requests[i] = lease.Request{Key: newKey(), Limit: uint32(i + 1), Tokens: uint32(2*i + 1), Span: time.Minute, Lease: lease.ID{Replica: 1, Number: uint64(i)}}
	}
	if err := engine.Exchange(t.Context(), requests, grants); err != nil {
		t.Fatal(err)
	}
	for i, g := range grants {
		if g.Err != nil || g.Tokens != uint32(i+1) || g.Left != 0 || g.Total != uint64(i+1) || g.Reset < time.Hour || g.Reset > 62*time.Minute+time.Second {
			t.Errorf("key %d: %+v", i, g)
		}
	}
}

func contextDone(t *testing.T, engine lease.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := lease.Request{Key: newKey(), Limit: 10, Tokens: 10, Span: time.Minute, Lease: lease.ID{Number: 1}}
	grants := make([]lease.Grant, 1)
	err := engine.Exchange(ctx, []lease.Request{r}, grants)
	if err == nil {
		err = grants[0].Err
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
}

func countsReplicas(t *testing.T, engine lease.Engine) {
	a, b := rand.Uint64(), rand.Uint64()
	first, err := engine.Replicas(t.Context(), a)
	if err != nil || first < 1 {
		t.Fatalf("%d replicas, %v", first, err)
	}
	for _, step := range []struct {
		replica uint64
		want    int
	}{{a, first}, {b, first + 1}, {a, first + 1}, {b, first + 1}} {
		if got, err := engine.Replicas(t.Context(), step.replica); err != nil || got != step.want {
			t.Errorf("%d replicas, expected %d; %v", got, step.want, err)
		}
	}
}
