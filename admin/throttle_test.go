package admin

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var throttleStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Against a model that counts without bounds: never more than ten tries in a
// window that opens at the first, never fewer.
func TestThrottleCounts(t *testing.T) {
	type window struct {
		opened time.Time
		count  int
	}
	rapid.Check(t, func(t *rapid.T) {
		throttle, now, model := newThrottle(), throttleStart, map[string]*window{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "account")
			w := model[name]
			if w == nil || w.count == 0 || now.Sub(w.opened) >= throttleWindow {
				w = &window{opened: now}
				model[name] = w
			}
			want := w.count < maxFailures
			wait, allowed := throttle.take(now, throttle.accountTag(name))
			if allowed != want || !allowed && wait != w.opened.Add(throttleWindow).Sub(now) {
				t.Fatalf("allowed %v after %v, want %v with %d tries", allowed, wait, want, w.count)
			}
			if !allowed {
				continue
			}
			w.count++
			if rapid.Bool().Draw(t, "good") {
				throttle.giveBack(throttle.accountTag(name))
				w.count--
			}
		}
	})
}

// However many addresses fail once, one that is refused stays refused.
func TestThrottleKeepsTheWorst(t *testing.T) {
	throttle := newThrottle()
	worst := throttle.addressTag(netip.MustParseAddr("192.0.2.1"))
	for range maxFailures {
		throttle.take(throttleStart, worst)
	}
	addr := netip.MustParseAddr("10.0.0.0")
	for range 1 << 18 {
		throttle.take(throttleStart, throttle.addressTag(addr))
		addr = addr.Next()
	}
	if _, allowed := throttle.take(throttleStart, worst); allowed {
		t.Error("an address was forgotten that had failed ten times")
	}
}

// An attempt that one tag refuses costs the other nothing.
func TestThrottleTakesAllOrNothing(t *testing.T) {
	throttle := newThrottle()
	full, other := throttle.accountTag("full"), throttle.accountTag("other")
	for range maxFailures {
		throttle.take(throttleStart, full)
	}
	for range 20 {
		throttle.take(throttleStart, full, other)
	}
	if _, allowed := throttle.take(throttleStart, other); !allowed {
		t.Error("a refused attempt was counted")
	}
}
