package pace

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestShares(t *testing.T) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	s := NewShares(10, 5)
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for i, step := range []struct {
		after time.Duration
		from  netip.Addr
		n     int
		want  time.Duration
	}{
		{0, one, 5, 0},
		{0, one, 1, 100 * time.Millisecond},
		{0, one, 2, 300 * time.Millisecond},
		{0, other, 5, 0},
		{0, netip.MustParseAddr("2001:db8::ffff"), 1, 100 * time.Millisecond}, // the same network
		{0, netip.MustParseAddr("2001:db8:0:1::1"), 5, 0},                     // another
		{0, netip.Addr{}, 6, 100 * time.Millisecond},                          // a Unix socket
		{300 * time.Millisecond, one, 1, 100 * time.Millisecond},
		{time.Hour, one, 5, 0}, // no more than the burst was saved up
		{0, one, 1, 100 * time.Millisecond},
		{0, one, 1 << 30, mostDebt}, // and there is an end to debts
		{mostDebt, one, 1, 100 * time.Millisecond},
	} {
		start = start.Add(step.after)
		if got := s.Take(step.from, step.n, start); got != step.want {
			t.Errorf("step %d: waits for %v, want %v", i, got, step.want)
		}
	}
}

// Addresses that took something long ago take no memory.
func TestSharesAreForgotten(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	s := NewShares(100, 100)
	for i := range 100_000 {
		s.Take(netip.MustParseAddr(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), 1, now)
		now = now.Add(time.Millisecond)
	}
	if len(s.full) > 1100 {
		t.Errorf("%d addresses are kept, want those of about a second", len(s.full))
	}
	s.Take(netip.Addr{}, 1, now.Add(time.Minute))
	if len(s.full) != 1 {
		t.Errorf("%d addresses are kept after a minute, want 1", len(s.full))
	}
}
