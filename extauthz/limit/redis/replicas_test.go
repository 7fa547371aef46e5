package redis_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block/shared/backendtest"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/internal/redistest"
)

// fleet is some replicas of the service, as far as limits go.
type fleet struct {
	t        testing.TB
	limiters []*lease.Limiter
	allowed  atomic.Int64
	denied   atomic.Int64
	failed   atomic.Int64
}

func newFleet(t testing.TB, count int, o redis.Options) *fleet {
	t.Helper()
	f := &fleet{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for range count {
		limiter, err := lease.New(lease.Options{Engine: open(t, o), Replicas: count, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		f.limiters = append(f.limiters, limiter)
		group.Go(func() {
			if err := limiter.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		for _, limiter := range f.limiters {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			_ = limiter.Close(ctx) // where the server is gone nothing can be given back
			cancel()
		}
		cancel()
		group.Wait()
	})
	return f
}

// calls makes calls of a key, three quarters of them at the first replica and
// most of the others at the second. It tells progress how many were made.
func (f *fleet) calls(key *apikey.Key, count int, progress func(made int)) {
	var group sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		group.Go(func() {
			for {
				i := int(next.Add(1))
				if i > count {
					return
				}
				if progress != nil {
					progress(i)
				}
				replica := 0
				if i%4 == 0 {
					replica = min(len(f.limiters)-1, 1+i/4%16/15)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
				result, err := f.limiters[replica].Spend(ctx, key, 1, time.Now())
				cancel()
				switch {
				case err != nil && !errors.Is(err, lease.ErrUnavailable):
					f.t.Error(err)
				case err != nil:
					f.failed.Add(1)
				case result.Allowed:
					f.allowed.Add(1)
				default:
					f.denied.Add(1)
				}
			}
		})
	}
	group.Wait()
}

func (f *fleet) exchanges() (sum uint64) {
	for _, limiter := range f.limiters {
		sum += limiter.Stats().Exchanges
	}
	return sum
}

func (f *fleet) expect(least, most int64) {
	f.t.Helper()
	f.t.Logf("allowed=%d denied=%d failed=%d exchanges=%d", f.allowed.Load(), f.denied.Load(), f.failed.Load(), f.exchanges())
	if n := f.allowed.Load(); n > most || n < least {
		f.t.Errorf("%d calls passed, expected %d to %d", n, least, most)
	}
}

func TestThreeReplicasShareOneLimit(t *testing.T) {
	s := redistest.Start(t, exact...)
	t.Run("all live", func(t *testing.T) {
		f := newFleet(t, 3, redis.Options{Addresses: []string{s.Address}})
		f.calls(&apikey.Key{ID: 1, RateLimitPerHour: 5000}, 50_000, nil)
		f.expect(4900, 5000)
		if f.exchanges() > 500 {
			t.Errorf("%d exchanges for 50000 calls", f.exchanges())
		}
	})
	t.Run("one dies in the middle", func(t *testing.T) {
		f := newFleet(t, 3, redis.Options{Addresses: []string{s.Address}})
		key := &apikey.Key{ID: 2, RateLimitPerHour: 5000}
		f.calls(key, 3000, nil)
		dead := f.limiters[1]
		f.limiters = []*lease.Limiter{f.limiters[0], f.limiters[2]}
		if dead.Stats().Leased == 0 {
			t.Error("the one that died had leased nothing")
		}
		f.calls(key, 47_000, nil)
		f.expect(4900, 5000)
	})
}

// The server is killed while calls are made and starts again with what it has
// on disk.
func TestServerIsKilled(t *testing.T) {
	s := redistest.Start(t, exact...)
	f := newFleet(t, 3, redis.Options{Addresses: []string{s.Address}})
	key := &apikey.Key{ID: 1, RateLimitPerHour: 5000}
	for round := range 3 {
		var once sync.Once
		f.calls(key, 1500, func(made int) {
			if made > 700 {
				once.Do(func() { s.Kill(t) })
			}
		})
		s.Start(t)
		// A replica that had an error leaves the server alone for a moment.
		backendtest.Eventually(t, "limits work again", func() bool {
			before := f.allowed.Load()
			f.calls(key, 4, nil)
			return f.allowed.Load() == before+4
		})
		t.Logf("round %d: %d calls passed", round, f.allowed.Load())
	}
	f.calls(key, 20_000, nil)
	f.calls(key, 20_000, nil)
	// Each restart may cost a 64th, and a 50th that was leased and not used.
	f.expect(5000-3*78-3*100, 5000)
	if f.failed.Load() == 0 {
		t.Error("no call failed while the server was away")
	}
}

// The server stops and goes on: nobody waits for long, and nothing is spent
// twice.
func TestServerIsStopped(t *testing.T) {
	s := redistest.Start(t, exact...)
	f := newFleet(t, 3, redis.Options{Addresses: []string{s.Address}})
	key := &apikey.Key{ID: 1, RateLimitPerHour: 5000}
	f.calls(key, 1000, nil)
	s.Pause(t)
	before := f.allowed.Load()
	f.calls(key, 1000, nil)
	if leased := f.allowed.Load() - before; leased > 3*5000/50 {
		t.Errorf("%d calls passed while the server was stopped, expected what was leased", leased)
	}
	s.Resume(t)
	backendtest.Eventually(t, "limits work again", func() bool {
		f.calls(key, 1, nil)
		return !f.limiters[0].Stats().Failing
	})
	f.calls(key, 20_000, nil)
	f.calls(key, 20_000, nil)
	f.expect(5000-600, 5000)
}

// A grant that the replica does not have is not used.
func TestWaitsForReplicas(t *testing.T) {
	master := redistest.Start(t)
	replica := master.StartReplica(t)
	f := newFleet(t, 2, redis.Options{Addresses: []string{master.Address}, Replicas: 1})
	key := &apikey.Key{ID: 1, RateLimitPerHour: 5000}
	// The replica's first answer can take longer than a call waits.
	backendtest.Eventually(t, "the replica has a grant", func() bool {
		f.calls(key, 1, nil)
		return f.allowed.Load() > 0
	})
	f.calls(key, 1000, nil)
	before, failed := f.allowed.Load(), f.failed.Load()
	replica.Pause(t)
	f.calls(key, 500, nil)
	if f.failed.Load() == failed || f.allowed.Load() > before+2*5000/50 {
		t.Errorf("%d calls passed and %d failed while the replica was stopped", f.allowed.Load()-before, f.failed.Load()-failed)
	}
	replica.Resume(t)
	// The replica takes over and has all that was used.
	master.Kill(t)
	expectOK(t, replica, "REPLICAOF", "NO", "ONE")
	g := newFleet(t, 2, redis.Options{Addresses: []string{replica.Address}, AllowLoss: true})
	g.calls(key, 20_000, nil)
	f.allowed.Add(g.allowed.Load())
	f.expect(4500, 5000)
}

// slow skips a test that takes long, unless TOKENKIT_CLUSTER is set.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("TOKENKIT_CLUSTER") == "" {
		t.Skip("set TOKENKIT_CLUSTER: it takes some seconds")
	}
}

// Sentinel replaces the server while calls are made.
func TestSentinelFailover(t *testing.T) {
	slow(t)
	master := redistest.Start(t)
	replica := master.StartReplica(t)
	sentinels := master.StartSentinels(t, 1)
	o := redis.Options{Addresses: sentinels.Addresses(), Master: redistest.Group, Replicas: 1}
	f := newFleet(t, 3, o)
	key := &apikey.Key{ID: 1, RateLimitPerHour: 5000}
	var once sync.Once
	f.calls(key, 3000, func(made int) {
		if made > 1500 {
			once.Do(func() { master.Kill(t) })
		}
	})
	backendtest.Eventually(t, "the replica takes over", func() bool { return replica.IsMaster() && sentinels.Follow(replica) })
	// Without another replica nothing is granted.
	before := f.allowed.Load()
	f.calls(key, 500, nil)
	if leased := f.allowed.Load() - before; leased > 3*5000/50 {
		t.Errorf("%d calls passed without a replica", leased)
	}
	master.Start(t, "--replicaof", "127.0.0.1 "+replica.Port())
	backendtest.Eventually(t, "the former master copies it", master.Copies)
	backendtest.Eventually(t, "limits work again", func() bool {
		f.calls(key, 1, nil)
		return !f.limiters[0].Stats().Failing
	})
	f.calls(key, 20_000, nil)
	f.calls(key, 20_000, nil)
	f.expect(4000, 5000)
}
