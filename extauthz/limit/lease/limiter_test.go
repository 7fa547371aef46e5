package lease_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

func newLimiter(t testing.TB, o lease.Options) *lease.Limiter {
	t.Helper()
	if o.Logger == nil {
		o.Logger = discard
	}
	l, err := lease.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// running starts limiters over one engine and stops them when f returns.
func running(t *testing.T, count int, o lease.Options, f func(t *testing.T, limiters []*lease.Limiter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var limiters []*lease.Limiter
		var group sync.WaitGroup
		for range count {
			l := newLimiter(t, o)
			limiters = append(limiters, l)
			group.Go(func() {
				if err := l.Run(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(10 * time.Second) // until all know of each other
		f(t, limiters)
		for _, l := range limiters {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_ = l.Close(ctx)
			cancel()
		}
		group.Wait()
	})
}

func key(id apikey.KeyID, perHour uint32) *apikey.Key {
	return &apikey.Key{ID: id, RateLimitPerHour: perHour}
}

func spend(t testing.TB, l *lease.Limiter, k *apikey.Key, n uint32) limit.Result {
	t.Helper()
	result, err := l.Spend(context.Background(), k, n, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// The whole limit can be had at once, by however many replicas it is shared,
// and nothing beyond; all of it is back after an hour and two minutes.
func TestWholeLimitAndNoMore(t *testing.T) {
	for name, perHour := range map[string]uint32{"one": 1, "two": 2, "small": 60, "5000": 5000, "large": 100_000} {
		for _, replicas := range []int{1, 3, 10} {
			if perHour > 5000 && replicas != 3 {
				continue // like the others, but slower
			}
			t.Run(fmt.Sprintf("%s, %d replicas", name, replicas), func(t *testing.T) {
				engine := &lease.Memory{}
				running(t, replicas, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
					for round := range 2 {
						allowed := uint32(0)
						for i := range 2 * perHour {
							if spend(t, limiters[int(i)%replicas], key(7, perHour), 1).Allowed {
								allowed++
							}
						}
						if allowed > perHour || allowed < perHour-perHour/50 {
							t.Errorf("round %d: %d of %d calls were allowed", round+1, allowed, perHour)
						}
						time.Sleep(63 * time.Minute)
					}
				})
			})
		}
	}
}

// A key that is in use rarely waits for the engine, nor asks it often, even
// where it uses all of its limit all the time.
func TestBusyKeyIsLocal(t *testing.T) {
	for _, tt := range []struct {
		perHour uint32
		per100  float64 // exchanges for as many calls
	}{{5000, 4.5}, {20_000, 1.15}, {100_000, 0.25}} {
		t.Run(fmt.Sprint(tt.perHour), func(t *testing.T) {
			engine := &slow{Engine: &lease.Memory{}, delay: 20 * time.Millisecond}
			running(t, 3, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
				calls := int(tt.perHour) * 9 / 10
				k := key(7, tt.perHour)
				for i := range calls {
					if !spend(t, limiters[i%3], k, 1).Allowed {
						t.Fatalf("call %d was denied", i)
					}
					time.Sleep(time.Hour / time.Duration(tt.perHour))
				}
				var exchanges, waits uint64
				for _, l := range limiters {
					exchanges += l.Stats().Exchanges
					waits += l.Stats().Waits
				}
				per100 := float64(exchanges) * 100 / float64(calls)
				t.Logf("%.2f exchanges for 100 calls, %d of %d calls waited", per100, waits, calls)
				if per100 > tt.per100 || waits > 8 {
					t.Errorf("expected at most %.2f, and few", tt.per100)
				}
			})
		})
	}
}

type slow struct {
	lease.Engine
	delay  time.Duration // before anything is done
	answer time.Duration // until it is told
	fail   atomic.Bool
	calls  atomic.Int64
}

func (s *slow) Exchange(ctx context.Context, requests []lease.Request, grants []lease.Grant) error {
	s.calls.Add(1)
	if s.fail.Load() {
		return errors.New("connection refused")
	}
	time.Sleep(s.delay)
	err := s.Engine.Exchange(ctx, requests, grants)
	time.Sleep(s.answer)
	return err
}

// While the engine is away leases are spent, and then the mode decides.
func TestEngineAway(t *testing.T) {
	for name, mode := range map[string]lease.Mode{"closed": lease.Closed, "open": lease.Open} {
		t.Run(name, func(t *testing.T) {
			engine := &slow{Engine: &lease.Memory{}}
			running(t, 1, lease.Options{Engine: engine, Mode: mode}, func(t *testing.T, limiters []*lease.Limiter) {
				l, k := limiters[0], key(7, 64_000)
				for range 10_000 {
					spend(t, l, k, 1)
					time.Sleep(time.Millisecond)
				}
				engine.fail.Store(true)
				passed, failed := 0, 0
				for range 2000 {
					result, err := l.Spend(t.Context(), k, 1, time.Now())
					if err == nil && result.Allowed {
						passed++
					} else if errors.Is(err, lease.ErrUnavailable) {
						failed++
					}
				}
				stats := l.Stats()
				if mode == lease.Closed && (passed < 640/4 || passed > 640 || passed+failed != 2000 || stats.Opened > 0) {
					t.Errorf("%d calls passed and %d failed, expected the lease of 160 to 640 calls to be spent", passed, failed)
				}
				if mode == lease.Open && (passed != 2000 || stats.Opened < 1000) {
					t.Errorf("%d calls passed, %d of them without a decision", passed, stats.Opened)
				}
				if !stats.Failing || stats.Errors == 0 {
					t.Errorf("%+v", stats)
				}
				engine.fail.Store(false)
				time.Sleep(time.Second)
				if result := spend(t, l, k, 1); !result.Allowed || l.Stats().Failing {
					t.Errorf("after the engine came back: %+v", result)
				}
			})
		})
	}
}

// A lease begins when it was asked for, not when the answer came.
func TestSlowAnswersShortenLeases(t *testing.T) {
	engine := &slow{Engine: &lease.Memory{}, answer: 900 * time.Millisecond}
	running(t, 1, lease.Options{Engine: engine, Span: time.Second, Wait: 5 * time.Second}, func(t *testing.T, limiters []*lease.Limiter) {
		l, k := limiters[0], key(7, 5000)
		spend(t, l, k, 1)
		spend(t, l, k, 1) // leases more than that
		spend(t, l, k, 1)
		if waits := l.Stats().Waits; waits != 2 {
			t.Fatalf("%d calls waited, expected the first two", waits)
		}
		time.Sleep(60 * time.Millisecond)
		spend(t, l, k, 1)
		if waits := l.Stats().Waits; waits != 3 {
			t.Error("a call was spent from a lease that was asked for 960 ms before and lasts a second")
		}
	})
}

// What one replica does not use comes back to the others.
func TestUnusedTokensComeBack(t *testing.T) {
	engine := &lease.Memory{}
	running(t, 2, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
		k := key(7, 10_000)
		for range 200 {
			spend(t, limiters[0], k, 1)
		}
		time.Sleep(2 * time.Minute)
		used := 0
		for range 10_000 {
			if spend(t, limiters[1], k, 1).Allowed {
				used++
			}
		}
		if used != 9800 {
			t.Errorf("%d calls passed, expected the 9800 that were left", used)
		}
		look, err := limiters[0].Look(t.Context(), k, 1, time.Now())
		if err != nil || look.Allowed || look.Remaining != 0 || look.Reset <= 50*time.Minute || look.Reset > 62*time.Minute {
			t.Errorf("looking at a limit that is used up: %+v, %v", look, err)
		}
	})
}

// Closing gives back at once.
func TestCloseGivesBack(t *testing.T) {
	engine := &lease.Memory{}
	running(t, 2, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
		k := key(7, 10_000)
		for range 200 {
			spend(t, limiters[0], k, 1)
		}
		if err := limiters[0].Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := limiters[0].Spend(t.Context(), k, 1, time.Now()); !errors.Is(err, limit.ErrClosed) {
			t.Errorf("spending after Close: %v", err)
		}
		look, err := limiters[1].Look(t.Context(), k, 1, time.Now())
		if err != nil || look.Remaining != 9800 {
			t.Errorf("%d calls remain, expected 9800; %v", look.Remaining, err)
		}
	})
}

// Calls that find nothing left do not ask the engine each.
func TestDenialsAreRemembered(t *testing.T) {
	engine := &lease.Memory{}
	running(t, 1, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
		k := key(7, 10)
		for range 10 {
			spend(t, limiters[0], k, 1)
		}
		before := engine.Exchanges()
		for range 50_000 {
			result := spend(t, limiters[0], k, 1)
			if result.Allowed || result.Limit != 10 || result.Remaining != 0 || result.Reset <= 59*time.Minute {
				t.Fatalf("%+v", result)
			}
			time.Sleep(20 * time.Microsecond)
		}
		if asked := engine.Exchanges() - before; asked > 6 {
			t.Errorf("%d exchanges for a second of denied calls", asked)
		}
	})
}

// Raising and lowering a limit keeps what was spent.
func TestChangedLimit(t *testing.T) {
	running(t, 1, lease.Options{Engine: &lease.Memory{}}, func(t *testing.T, limiters []*lease.Limiter) {
		l := limiters[0]
		for _, step := range []struct{ perHour, allowed uint32 }{{1000, 1000}, {1500, 500}, {800, 0}, {1600, 100}} {
			allowed := uint32(0)
			for range 2000 {
				if spend(t, l, key(7, step.perHour), 1).Allowed {
					allowed++
				}
			}
			if allowed != step.allowed {
				t.Errorf("with a limit of %d, %d calls passed, expected %d", step.perHour, allowed, step.allowed)
			}
		}
	})
}

func TestCosts(t *testing.T) {
	running(t, 2, lease.Options{Engine: &lease.Memory{}}, func(t *testing.T, limiters []*lease.Limiter) {
		k := key(7, 100)
		if result := spend(t, limiters[0], k, 101); result.Allowed || result.Reset != time.Hour {
			t.Errorf("more than the limit: %+v", result)
		}
		for i, step := range []struct {
			n    uint32
			want bool
		}{{60, true}, {41, false}, {40, true}, {1, false}} {
			if got := spend(t, limiters[i%2], k, step.n); got.Allowed != step.want {
				t.Errorf("call %d of %d tokens: %+v", i+1, step.n, got)
			}
			time.Sleep(time.Second)
		}
	})
}

// Calls that wait for one exchange share it.
func TestWaitingCallsShareAnExchange(t *testing.T) {
	engine := &slow{Engine: &lease.Memory{}, delay: 10 * time.Millisecond}
	running(t, 1, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
		var group sync.WaitGroup
		var allowed atomic.Int64
		for range 100 {
			group.Go(func() {
				if spend(t, limiters[0], key(7, 60), 1).Allowed {
					allowed.Add(1)
				}
			})
		}
		group.Wait()
		if engine.calls.Load() > 2 || allowed.Load() != 60 {
			t.Errorf("%d exchanges, %d of 60 calls passed", engine.calls.Load(), allowed.Load())
		}
	})
}

func TestCapacity(t *testing.T) {
	running(t, 1, lease.Options{Engine: &lease.Memory{}, Capacity: 100}, func(t *testing.T, limiters []*lease.Limiter) {
		l := limiters[0]
		full := 0
		for id := range apikey.KeyID(1000) {
			// Each holds a lease of several tokens.
			for range 2 {
				if spend(t, l, key(id+1, 64_000), 1).Full {
					full++
				}
			}
		}
		if stats := l.Stats(); full == 0 || stats.Keys > 100 || stats.Full != uint64(full) {
			t.Errorf("%d calls found no room; %+v", full, stats)
		}
		time.Sleep(2 * time.Minute)
		first := spend(t, l, key(5000, 64_000), 1) // which may only make room
		if first.Full && spend(t, l, key(5000, 64_000), 1).Full {
			t.Error("no room once the leases have ended")
		}
		time.Sleep(3 * time.Hour)
		if keys := l.Stats().Keys; keys != 0 {
			t.Errorf("%d keys are remembered that nobody used for hours", keys)
		}
	})
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	engine := &lease.Memory{}
	for name, o := range map[string]lease.Options{
		"no engine": {}, "negative capacity": {Engine: engine, Capacity: -1}, "negative wait": {Engine: engine, Wait: -1},
		"unknown mode": {Engine: engine, Mode: 7}, "long span": {Engine: engine, Span: time.Hour}, "short span": {Engine: engine, Span: 1},
		"negative replicas": {Engine: engine, Replicas: -1}, "negative timeout": {Engine: engine, Timeout: -1},
	} {
		if _, err := lease.New(o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestSpendingFromALeaseAllocatesNothing(t *testing.T) {
	l := newLimiter(t, lease.Options{Engine: &lease.Memory{}})
	k := key(7, apikey.MaxRateLimit)
	now := time.Now()
	for range 100_000 {
		spend(t, l, k, 1)
	}
	allocs := testing.AllocsPerRun(1000, func() { _, _ = l.Spend(t.Context(), k, 1, now) })
	if allocs >= 1 {
		t.Errorf("%v allocations", allocs)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkSpend(b *testing.B) {
	l := newLimiter(b, lease.Options{Engine: &lease.Memory{}})
	k := key(7, apikey.MaxRateLimit)
	start := time.Now()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		_, _ = l.Spend(b.Context(), k, 1, start)
	}
}
