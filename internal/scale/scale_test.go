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

// scenarios returns what is simulated: a little in each test run, and with
// TOKENKIT_SCALE=short or long more.
func scenarios(size string) []scenario {
	mixed := []uint32{60, 1000, 5000, 100_000}
	switch size {
	case "short":
		return []scenario{
			{name: "3 replicas, 10 busy keys", replicas: 3, keys: 10, limits: []uint32{20_000}, perSecond: 200, duration: 20 * time.Minute, delay: time.Millisecond},
			{name: "10 replicas, 10,000 keys", replicas: 10, keys: 10_000, limits: mixed, perSecond: 50, duration: 66 * time.Minute, delay: time.Millisecond},
			{name: "100 replicas, 1,000,000 keys", replicas: 100, keys: 1_000_000, limits: mixed, perSecond: 30, duration: 62 * time.Minute, delay: time.Millisecond},
			{name: "10 replicas, faults", replicas: 10, keys: 10_000, limits: mixed, perSecond: 50, duration: 66 * time.Minute, delay: time.Millisecond, faults: true},
		}
	case "long":
		var all []scenario
		for _, most := range []uint32{1000, 5000, 20_000, 100_000, 1_000_000} {
			all = append(all, scenario{
				name: fmt.Sprintf("3 replicas, one key of %d", most), replicas: 3, keys: 1, limits: []uint32{most},
				perSecond: float64(most) / 2000, duration: 62 * time.Minute, delay: time.Millisecond,
			})
		}
		for _, replicas := range []int{1, 3, 10, 30, 100, 300, 1000} {
			all = append(all, scenario{
				name: fmt.Sprintf("%d replicas, 10,000,000 keys", replicas), replicas: replicas, keys: 10_000_000, limits: mixed,
				perSecond: 300, duration: 65 * time.Minute, delay: time.Millisecond,
			})
		}
		for _, replicas := range []int{10, 100, 1000} {
			all = append(all, scenario{
				name: fmt.Sprintf("%d replicas, faults", replicas), replicas: replicas, keys: 100_000, limits: mixed,
				perSecond: 200, duration: 130 * time.Minute, delay: 2 * time.Millisecond, faults: true,
			})
		}
		return all
	}
	return []scenario{{name: "5 replicas, faults", replicas: 5, keys: 100, limits: []uint32{60, 200, 1000}, perSecond: 20, duration: 63 * time.Minute, delay: time.Millisecond, faults: true}}
}

// TestScale prints over_limit=0 last where it is so.
func TestScale(t *testing.T) {
	var over, wrong, byFaults, calls int64
	for _, s := range scenarios(os.Getenv("TOKENKIT_SCALE")) {
		o := simulate(t, s)
		fmt.Println(o.String())
		over += o.ledger.Over
		if o.faults { // what a crash or a failover takes with it returns after an hour
			byFaults += o.ledger.Wrong
		} else {
			wrong += o.ledger.Wrong
		}
		calls += o.calls()
		if o.ledger.Over > 0 {
			t.Errorf("%s: %d calls were allowed over a limit", o.name, o.ledger.Over)
		}
		if o.ledger.Allowed == 0 || o.ledger.Denied == 0 {
			t.Errorf("%s: %d calls were allowed and %d denied; a simulation in which nothing happens shows nothing", o.name, o.ledger.Allowed, o.ledger.Denied)
		}
		if o.faults && (o.crashes == 0 || o.failovers == 0) {
			t.Errorf("%s: %d crashes and %d failovers", o.name, o.crashes, o.failovers)
		}
		if !o.faults && (o.failed > 0 || float64(o.ledger.Wrong) > 0.001*float64(o.calls())) {
			t.Errorf("%s: %d of %d calls were not decided and %d denied for nothing, without any fault", o.name, o.failed, o.calls(), o.ledger.Wrong)
		}
	}
	fmt.Printf("over_limit=%d wrongly_denied=%d denied_by_faults=%d calls=%d bytes_a_key=%d\n", over, wrong, byFaults, calls, bytesOfKey(t))
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
