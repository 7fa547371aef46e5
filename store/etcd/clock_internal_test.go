package etcd

import (
	"errors"
	"testing"
	"time"

	"github.com/tokenkithq/authz/store"
)

// A machine that slept, while its monotonic clock stood still, knows by the
// wall clock that its registration may have ended.
func TestWallClockCountsToo(t *testing.T) {
	e := newEngine(nil, Options{Staleness: 30 * time.Second})
	for _, c := range []struct {
		name  string
		sent  time.Duration // ago, by both clocks
		slept time.Duration
		stale bool
	}{
		{name: "just renewed"},
		{name: "renewed 26 seconds ago", sent: 26 * time.Second},
		{name: "renewed 28 seconds ago", sent: 28 * time.Second, stale: true},
		{name: "slept for 26 seconds", slept: 26 * time.Second},
		{name: "slept for 28 seconds", slept: 28 * time.Second, stale: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.sent, e.granted = time.Now().Add(-c.sent), 30*time.Second
			e.renewed()
			e.validWall.Add(-int64(c.slept))
			if err := e.fresh(); errors.Is(err, store.ErrUnavailable) != c.stale {
				t.Errorf("%v, expected it to be stale: %v", err, c.stale)
			}
		})
	}
	select {
	case <-e.renew:
	default:
		t.Error("it does not ask for a renewal")
	}
}
