package scale

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// outcome is what came of it.
type outcome struct {
	scenario
	ledger    *Ledger
	failed    int64 // calls that could not be decided
	exchanges uint64
	lasted    float64 // exchanges for a call until the first was denied
	first     float64 // exchanges for a call at the first replica, where it did not crash
	trips     int64
	crashes   int
	failovers int
	took      time.Duration // real
}

func (o *outcome) calls() int64 { return o.ledger.Allowed + o.ledger.Denied + o.failed }

func (o *outcome) String() string {
	calls := float64(o.calls())
	return fmt.Sprintf("%s: calls=%d over=%d wrong=%.5f early=%.4f failed=%.5f engine=%.4f lasted=%.4f first=%.4f trips=%.4f crashes=%d failovers=%d (in %v)", o.name, o.calls(),
		o.ledger.Over, float64(o.ledger.Wrong)/calls, float64(o.ledger.Early)/calls, float64(o.failed)/calls,
		float64(o.exchanges)/calls, o.lasted, o.first, float64(o.trips)/calls, o.crashes, o.failovers, o.took.Round(time.Millisecond))
}

// fleet is the replicas of one simulation.
type fleet struct {
	scenario
	engine *lease.Memory
	old    map[apikey.KeyID]lease.Account // what the next server will have

	mu       sync.Mutex // of the ledger, whose times must not go back
	ledger   *Ledger
	failed   int64
	lasted   float64
	first    int64 // calls at the first replica
	calls    sync.WaitGroup
	networks []*Network
	limiters []*lease.Limiter
	stops    []func()
	loops    sync.WaitGroup
}

func (f *fleet) boot(t *testing.T, i int) {
	t.Helper()
	limiter, err := lease.New(lease.Options{Engine: f.networks[i], Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.limiters[i], f.stops[i] = limiter, cancel
	f.loops.Go(func() { _ = limiter.Run(ctx) })
}

// call makes one call at a replica, in a goroutine of its own where it has to
// wait.
func (f *fleet) call(key *apikey.Key, limiter *lease.Limiter) {
	ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
	defer cancel()
	result, err := limiter.Spend(ctx, key, 1, time.Now())
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.failed++
		return
	}
	if !result.Allowed && f.ledger.Denied == 0 {
		f.lasted = float64(f.engine.Exchanges()) / float64(max(1, f.ledger.Allowed))
	}
	f.ledger.Note(int64(key.ID), time.Now().UnixMilli(), key.RateLimitPerHour, result.Allowed)
}

// failover has another server take over now and then. It has all that was
// confirmed, though nobody knows that, or it lacks the last two seconds.
func (f *fleet) failover(at int, o *outcome) {
	const every, back = 100_000, 200
	switch at % every {
	case every - 1 - back:
		if f.forgets {
			f.old = f.engine.Snapshot()
		}
	case every - 1:
		if !f.forgets {
			f.old = f.engine.Snapshot()
		}
		f.engine.Restore(f.old, fmt.Sprint(at))
		f.old = nil
		o.failovers++
	}
}

// tick is how often calls are made.
const tick = 10 * time.Millisecond

// simulate runs a scenario within a bubble of time.
func simulate(t *testing.T, s scenario) (o outcome) {
	o.scenario = s
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{scenario: s, engine: &lease.Memory{}, ledger: NewLedger(), limiters: make([]*lease.Limiter, s.replicas), stops: make([]func(), s.replicas)}
		for i := range s.replicas {
			n := &Network{Engine: f.engine, Delay: s.delay}
			if s.faults {
				n.Loss = 0.001
			}
			f.networks = append(f.networks, n)
			f.boot(t, i)
		}
		time.Sleep(10 * time.Second) // until they know how many they are
		random := rand.New(rand.NewPCG(1, uint64(s.replicas)))
		next := func() uint64 { return 0 }
		if s.keys > 1 {
			next = rand.NewZipf(random, 1.1, 1, s.keys-1).Uint64
		}
		keys := map[uint64]*apikey.Key{}
		due := 0.0
		for start, at := time.Now(), 0; time.Since(start) < s.duration; at++ {
			time.Sleep(tick)
			for due += s.perSecond * tick.Seconds(); due >= 1; due-- {
				n := next()
				key := keys[n]
				if key == nil {
					key = &apikey.Key{ID: apikey.KeyID(n + 1), RateLimitPerHour: s.limits[n%uint64(len(s.limits))]}
					keys[n] = key
				}
				// Unevenly: the first replica gets most.
				i := int(float64(s.replicas) * random.Float64() * random.Float64())
				if s.evenly {
					i = random.IntN(s.replicas)
				}
				if i == 0 {
					f.first++
				}
				limiter := f.limiters[i]
				f.calls.Go(func() { f.call(key, limiter) })
			}
			if !s.faults {
				continue
			}
			f.failover(at, &o)
			if at%6000 == 700 { // kill -9 and a new start
				i := random.IntN(s.replicas)
				f.stops[i]()
				f.boot(t, i)
				o.crashes++
			}
			if at%6000 == 3000 {
				f.networks[random.IntN(s.replicas)].Cut(true)
			}
			if at%6000 == 3300 {
				for _, n := range f.networks {
					n.Cut(false)
				}
			}
		}
		f.calls.Wait()
		for i, stop := range f.stops {
			if err := f.limiters[i].Close(context.Background()); err != nil && !s.faults {
				t.Error(err)
			}
			stop()
		}
		f.loops.Wait()
		time.Sleep(10 * time.Second) // until what replicas that crashed had asked for has ended
		o.ledger, o.failed, o.exchanges = f.ledger, f.failed, f.engine.Exchanges()
		o.lasted, o.first = f.lasted, float64(f.limiters[0].Stats().Exchanges)/float64(max(1, f.first))
		for _, n := range f.networks {
			o.trips += n.Trips()
		}
	})
	o.took = time.Since(began)
	return o
}
