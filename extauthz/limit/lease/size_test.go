package lease_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// A key that is called ten times a second asks the engine for no more than
// one of a hundred calls, though its limit is used up after some minutes.
func TestVeryBusyKey(t *testing.T) {
	engine := &slow{Engine: &lease.Memory{}, delay: 2 * time.Millisecond}
	running(t, 3, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
		k := key(7, 5000)
		calls, allowed, lasted := 0, 0, uint64(0)
		exchanges := func() (sum uint64) {
			for _, l := range limiters {
				sum += l.Stats().Exchanges
			}
			return sum
		}
		for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(100 * time.Millisecond) {
			for i := range limiters {
				calls++
				if spend(t, limiters[i], k, 1).Allowed {
					allowed++
				} else if lasted == 0 {
					lasted = exchanges()
				}
			}
		}
		t.Logf("%d exchanges for %d calls, %d of them for the %d that passed", exchanges(), calls, lasted, allowed)
		if 100*exchanges() > uint64(calls) || lasted > 110 || allowed > 5000 || allowed < 4900 {
			t.Error("expected one for a hundred at the most, 110 for all that pass, and 4900 to 5000 that do")
		}
	})
}

// A key that is called all the time does not wait when a lease ends: the next
// is there.
func TestLeasesAreFollowed(t *testing.T) {
	running(t, 2, lease.Options{Engine: &lease.Memory{}}, func(t *testing.T, limiters []*lease.Limiter) {
		l, k := limiters[0], key(7, 100_000)
		var before uint64
		for i := range 2000 {
			if i == 400 {
				before = l.Stats().Waits
			}
			spend(t, l, k, 1)
			time.Sleep(time.Second)
		}
		if waits := l.Stats().Waits - before; waits > 1 {
			t.Errorf("%d of 1600 calls waited, in as many seconds", waits)
		}
		if exchanges := l.Stats().Exchanges; exchanges > 2000/50+10 {
			t.Errorf("%d exchanges, expected about one a minute", exchanges)
		}
	})
}

// A large limit is leased ahead from the first call on, a small one is not.
func TestFirstLease(t *testing.T) {
	for _, tt := range []struct {
		perHour uint32
		waits   uint64 // of ten calls
	}{{5000, 2}, {100_000, 1}, {100_000_000, 1}} {
		running(t, 1, lease.Options{Engine: &lease.Memory{}}, func(t *testing.T, limiters []*lease.Limiter) {
			for range 10 {
				spend(t, limiters[0], key(7, tt.perHour), 1)
				time.Sleep(10 * time.Millisecond)
			}
			if waits := limiters[0].Stats().Waits; waits != tt.waits {
				t.Errorf("with a limit of %d, %d of ten calls waited, expected %d", tt.perHour, waits, tt.waits)
			}
		})
	}
}

// However a key is called, a replica that dies takes no more of its limit with
// it than what it may hold, and what it was about to give back.
func TestHeldIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		perHour := rapid.SampledFrom([]uint32{100, 750, 5000, 20_000}).Draw(rt, "limit")
		replicas := rapid.SampledFrom([]int{1, 3}).Draw(rt, "replicas")
		bursts := rapid.SliceOfN(rapid.IntRange(1, 300), 10, 10).Draw(rt, "bursts")
		pauses := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{0, time.Millisecond, 20 * time.Millisecond, time.Second, 20 * time.Second}), 10, 10).Draw(rt, "pauses")
		most := 2 * int(max(perHour/50, 1))
		var held int
		running(t, replicas, lease.Options{Engine: &lease.Memory{}}, func(t *testing.T, limiters []*lease.Limiter) {
			l, k, spent := limiters[0], key(7, perHour), 0
			for i, burst := range bursts {
				for range burst {
					if spend(t, l, k, 1).Allowed {
						spent++
					}
					time.Sleep(pauses[i] / 20)
				}
				stats := l.Stats()
				held = max(held, int(stats.Leased-stats.Returned)-spent)
				time.Sleep(pauses[i])
			}
		})
		if held > most {
			rt.Fatalf("%d of %d were held, expected up to %d", held, perHour, most)
		}
	})
}
