package limit_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// Everything at once, on the real clock: calls of several keys with readings
// that come late, saves, sweeps and looks. Each key passes its limit exactly,
// and the journal has all of it in the end.
func TestEverythingAtOnce(t *testing.T) {
	d := &disk{inner: newMemory()}
	l := newLimiter(t, limit.Options{Journal: d, Interval: time.Millisecond, Wait: time.Minute})
	ended := make(chan error, 1)
	go func() { ended <- l.Run(t.Context()) }()
	limits := []uint32{1, 60, 64, 65, 1000}
	passed := make([]atomic.Uint32, len(limits))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for round := range 400 {
				for i, n := range limits {
					now := time.Now().Add(-time.Duration(round%3) * time.Millisecond)
					if spend(t, l, oldKey(apikey.KeyID(i+1), n), now).Allowed {
						passed[i].Add(1)
					}
					l.Peek(oldKey(apikey.KeyID(i+1), n), 1, now)
				}
				l.SweepAll(time.Now())
				l.Stats()
			}
		})
	}
	group.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for i, n := range limits {
		if out, _ := d.out(apikey.KeyID(i + 1)); passed[i].Load() != n || out != n {
			t.Errorf("limit %d: %d calls passed and %d were saved", n, passed[i].Load(), out)
		}
	}
}
