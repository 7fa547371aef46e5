package limit_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

func newLimiter(t testing.TB, o limit.Options) *limit.Limiter {
	t.Helper()
	l, err := limit.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func spend(t testing.TB, l *limit.Limiter, key *apikey.Key, now time.Time) limit.Result {
	t.Helper()
	result, err := l.Spend(t.Context(), key, 1, now)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// All N calls at once, then none until the first comes back.
func TestBurstThenReturn(t *testing.T) {
	for _, n := range []uint32{1, 2, 63, 64, 65, 5000} {
		l := newLimiter(t, limit.Options{})
		start := time.Now()
		key := &apikey.Key{ID: 7, RateLimitPerHour: n}
		for i := range n {
			result := spend(t, l, key, start.Add(time.Duration(i)))
			if !result.Allowed || result.Limit != n || result.Remaining != n-1-i || result.Reset <= time.Hour || result.Reset > 61*time.Minute {
				t.Fatalf("N=%d, call %d: %+v", n, i+1, result)
			}
		}
		denied := spend(t, l, key, start.Add(time.Hour))
		if denied.Allowed || denied.Remaining != 0 || denied.Reset <= 0 || denied.Full {
			t.Fatalf("N=%d, an hour later to the nanosecond: %+v", n, denied)
		}
		back := start.Add(time.Hour).Add(denied.Reset)
		if early := l.Peek(key, 1, back.Add(-2*time.Millisecond)); early.Allowed {
			t.Fatalf("N=%d, before Reset: %+v", n, early)
		}
		if again := spend(t, l, key, back); !again.Allowed || again.Remaining != n-1 {
			t.Fatalf("N=%d, after Reset: %+v", n, again)
		}
	}
}

func TestExactlyNOfManyConcurrentCalls(t *testing.T) {
	for _, n := range []uint32{1, 60, 5000} {
		l := newLimiter(t, limit.Options{})
		key := &apikey.Key{ID: 7, RateLimitPerHour: n}
		var allowed atomic.Uint32
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				for range n {
					if spend(t, l, key, time.Now()).Allowed {
						allowed.Add(1)
					}
				}
			})
		}
		group.Wait()
		if allowed.Load() != n {
			t.Errorf("N=%d: %d of %d calls were allowed", n, allowed.Load(), 10*n)
		}
	}
}

func TestSpendAllocatesNothing(t *testing.T) {
	for _, n := range []uint32{0, 60, 1_000_000} {
		l := newLimiter(t, limit.Options{})
		key := &apikey.Key{ID: 7, RateLimitPerHour: n}
		spend(t, l, key, time.Now())
		ctx := t.Context()
		if allocs := testing.AllocsPerRun(1000, func() { _, _ = l.Spend(ctx, key, 1, time.Now()) }); allocs != 0 {
			t.Errorf("N=%d: %v allocations a call", n, allocs)
		}
	}
}
