package scale

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// TestScale prints over_limit=0 last where it is so.
func TestScale(t *testing.T) {
	var over, forgotten, wrong, byFaults, calls int64
	for _, s := range scenarios(os.Getenv("TOKENKIT_SCALE")) {
		o := simulate(t, s)
		fmt.Println(o.String())
		calls += o.calls()
		if s.forgets {
			forgotten += o.ledger.Over
		} else {
			over += o.ledger.Over
		}
		if o.faults { // what a crash or a failover takes with it returns after an hour
			byFaults += o.ledger.Wrong
		} else {
			wrong += o.ledger.Wrong
		}
		o.check(t)
	}
	fmt.Printf("over_limit=%d wrongly_denied=%d denied_by_faults=%d over_limit_where_loss_is_allowed=%d calls=%d bytes_a_key=%d\n",
		over, wrong, byFaults, forgotten, calls, bytesOfKey(t))
}

// check says what must not have come of a scenario.
func (o *outcome) check(t *testing.T) {
	t.Helper()
	if o.ledger.Over > 0 && !o.forgets {
		t.Errorf("%s: %d calls were allowed over a limit", o.name, o.ledger.Over)
	}
	if o.ledger.Allowed == 0 || o.ledger.Denied == 0 && !o.ample {
		t.Errorf("%s: %d calls were allowed and %d denied; a simulation in which nothing happens shows nothing", o.name, o.ledger.Allowed, o.ledger.Denied)
	}
	if o.faults && (o.crashes == 0 || o.failovers == 0) {
		t.Errorf("%s: %d crashes and %d failovers", o.name, o.crashes, o.failovers)
	}
	if !o.faults && (o.failed > 0 || o.ledger.Wrong > 0) {
		t.Errorf("%s: %d of %d calls were not decided and %d denied for nothing, without any fault", o.name, o.failed, o.calls(), o.ledger.Wrong)
	}
}

// bytesOfKey measures the memory of a replica for each key whose calls it has
// seen.
func bytesOfKey(t *testing.T) uint64 {
	t.Helper()
	const keys = 200_000
	limiter, err := lease.New(lease.Options{Engine: &generous{}, Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	for id := range apikey.KeyID(keys) {
		key := apikey.Key{ID: id + 1, RateLimitPerHour: 100}
		if _, err := limiter.Spend(t.Context(), &key, 1, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	after := heap()
	runtime.KeepAlive(limiter)
	return (after - min(after, before)) / keys
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The ledger must see what it is for.
func TestLedger(t *testing.T) {
	for _, c := range []struct {
		name              string
		allowed           []int64
		denied            int64
		over, early, late int64
	}{
		{name: "as many as the limit", allowed: []int64{0, 1, 2}, denied: 3},
		{name: "one more within the hour", allowed: []int64{0, 1, 2, hour - 1}, denied: hour, over: 1},
		{name: "one more after the hour", allowed: []int64{0, 1, 2, hour}, denied: hour},
		{name: "denied a little early", allowed: []int64{0, 1, 2}, denied: hour + 2, early: 1},
		{name: "denied for nothing", allowed: []int64{0, 1, 2}, denied: hour + slack + 1, early: 1, late: 1},
		{name: "nothing was allowed", denied: 5, early: 1, late: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLedger()
			for _, at := range c.allowed {
				l.Note(1, at, 3, true)
			}
			l.Note(2, c.denied, 3, true) // another key
			l.Note(1, c.denied, 3, false)
			if l.Over != c.over || l.Early != c.early || l.Wrong != c.late {
				t.Errorf("over %d, early %d, wrong %d; expected %d, %d, %d", l.Over, l.Early, l.Wrong, c.over, c.early, c.late)
			}
		})
	}
}

// generous grants what is asked for and keeps nothing.
type generous struct{}

func (generous) Exchange(_ context.Context, requests []lease.Request, grants []lease.Grant) error {
	for i := range requests {
		grants[i] = lease.Grant{Tokens: requests[i].Tokens, Left: 1, Total: 1, Time: time.Now().UnixMilli()}
	}
	return nil
}

func (generous) Replicas(context.Context, uint64) (int, error) { return 1, nil }
