package lease_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// reading makes a reading of a clock whose monotonic part says what the wall
// clock does not, as after the machine slept. Package time makes none, so this
// depends on how it stores them; [TestReading] tells when that changes.
func reading(wall time.Time, monotonic int64) time.Time {
	const (
		secondsTo1885 = (1884*365 + 1884/4 - 1884/100 + 1884/400) * 86400
		secondsTo1970 = (1969*365 + 1969/4 - 1969/100 + 1969/400) * 86400
	)
	t := wall.Round(0)
	parts := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t))
	parts.wall = 1<<63 | uint64(wall.Unix()+secondsTo1970-secondsTo1885)<<30 | uint64(wall.Nanosecond())
	parts.ext = monotonic
	return t
}

func TestReading(t *testing.T) {
	wall := time.Date(2026, 2, 3, 4, 5, 6, 789_000_001, time.UTC)
	a, b := reading(wall, 1000), reading(wall.Add(-48*time.Hour), 5000)
	if !a.Round(0).Equal(wall) || b.Sub(a) != 4000 {
		t.Errorf("%v, %v between the readings, expected 4µs", a, b.Sub(a))
	}
}

// On a machine that slept the monotonic clock stood still; the wall clock
// tells that leases have ended.
func TestLeasesEndWhileTheMachineSleeps(t *testing.T) {
	for _, tt := range []struct {
		name       string
		wall, mono time.Duration
		asks       bool
	}{
		{name: "nothing passed"},
		{name: "both passed", wall: time.Minute, mono: time.Minute, asks: true},
		{name: "the machine slept", wall: time.Minute, asks: true},
		{name: "the wall clock was set back", wall: -time.Hour, mono: time.Minute, asks: true},
		{name: "the wall clock was set back, and little passed", wall: -time.Hour, mono: time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			var wall, mono atomic.Int64
			mono.Store(1)
			now := func() time.Time { return reading(start.Add(time.Duration(wall.Load())), mono.Load()) }
			l := newLimiter(t, lease.Options{Engine: &lease.Memory{}, Now: now})
			call := func() {
				if result, err := l.Spend(t.Context(), key(7, 64_000), 1, now()); err != nil || !result.Allowed {
					t.Fatalf("%+v, %v", result, err)
				}
			}
			for range 3 {
				call()
			}
			before := l.Stats().Waits
			wall.Add(int64(tt.wall))
			mono.Add(int64(tt.mono))
			call()
			if asked := l.Stats().Waits > before; asked != tt.asks {
				t.Errorf("it asks the engine: %v", asked)
			}
			if err := l.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Tokens that a replica with a slow clock leases are charged by the engine's
// clock, and do not return to a replica with a better one before their hour.
func TestSlowClock(t *testing.T) {
	engine := &lease.Memory{}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		slowly := func() time.Time { return start.Add(time.Since(start) / 100 * 97) }
		a, b := newLimiter(t, lease.Options{Engine: engine, Now: slowly}), newLimiter(t, lease.Options{Engine: engine})
		spend := func(l *lease.Limiter, now time.Time) bool {
			result, err := l.Spend(t.Context(), key(7, 1), 1, now)
			if err != nil {
				t.Fatal(err)
			}
			return result.Allowed
		}
		first := spend(a, slowly())
		time.Sleep(95*time.Minute + 30*time.Second)
		second := spend(a, slowly())
		time.Sleep(59*time.Minute + 29*time.Second)
		if third := spend(b, time.Now()); !first || !second || third {
			t.Errorf("an hour and a half apart %v and %v, and 59 minutes after that %v; expected the last to be denied", first, second, third)
		}
	})
}
