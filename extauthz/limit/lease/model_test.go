package lease_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// TestModel takes generated steps with several replicas and an engine, with
// crashes of each, failovers that forget what was not confirmed, cut and slow
// connections, lost answers and clocks that run unevenly, and looks at the log
// of all calls that passed: no closed 60 minutes may hold more than the limit.
// At the end of each world all is healed, and after an hour the whole limit
// must be there again.
//
// TOKENKIT_MODEL_STEPS says how many steps to take, a hundred times as many:
// each is many calls.
func TestModel(t *testing.T) {
	text := cmp.Or(os.Getenv("TOKENKIT_MODEL_STEPS"), "15000")
	steps, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("TOKENKIT_MODEL_STEPS: expected a number, got %q", text)
	}
	steps /= 100
	tally := &tally{}
	defer func() {
		fmt.Printf("steps=%d calls=%d allowed=%d crashes=%d failovers=%d lost_answers=%d exchanges=%d over_limit=%d lost=%d\n",
			tally.steps, tally.calls, tally.allowed, tally.crashes, tally.failovers, tally.lostAnswers, tally.exchanges, tally.overLimit, tally.lost)
	}()
	for tally.steps < steps && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			if tally.steps >= steps {
				return
			}
			p := drawPlan(rt)
			var failure error
			synctest.Test(t, func(t *testing.T) { failure = p.play(t.Context(), tally) })
			if failure != nil {
				rt.Fatal(failure)
			}
		})
	}
}

type tally struct {
	steps, calls, allowed, crashes, failovers, lostAnswers, overLimit, lost int
	exchanges                                                               uint64
}

type stepKind int

const (
	calls stepKind = iota
	sleep
	linkState
	crash
	restart
	failover
	stepKinds
)

type modelStep struct {
	kind    stepKind
	replica int
	key     int
	count   int // of calls
	cost    uint32
	late    time.Duration // how old the readings of calls are
	apart   time.Duration // between calls
	length  time.Duration // of a sleep
	align   time.Duration // it ends so long after a whole minute; zero: anywhere
	link    linkKind
	keep    bool // a failover keeps what was not confirmed
	jump    time.Duration
}

type linkKind int

const (
	works linkKind = iota
	slowly
	refuses    // at once
	hangs      // nothing gets through
	losesReply // what is asked is done, nobody hears of it
	comesLate  // what is asked is done after the replica gave up
	linkKinds
)

type plan struct {
	replicas int
	limits   []uint32
	rates    []float64       // of the replicas' clocks
	offsets  []time.Duration // likewise
	jumping  bool            // the engine's clock jumps ahead at failovers; then no replica starts afresh
	steps    []modelStep
}

func drawPlan(rt *rapid.T) plan {
	p := plan{replicas: rapid.IntRange(1, 4).Draw(rt, "replicas"), jumping: rapid.IntRange(0, 3).Draw(rt, "jumping") == 0}
	for range rapid.IntRange(1, 2).Draw(rt, "keys") {
		p.limits = append(p.limits, rapid.SampledFrom([]uint32{1, 2, 5, 64, 100, 1000, 6400}).Draw(rt, "limit"))
	}
	for range p.replicas {
		rate := rapid.SampledFrom([]float64{0.97, 1, 1.03}).Draw(rt, "rate")
		if p.jumping {
			rate = 1
		}
		p.rates = append(p.rates, rate)
		p.offsets = append(p.offsets, rapid.SampledFrom([]time.Duration{0, -30 * time.Minute, 26 * time.Hour}).Draw(rt, "offset"))
	}
	for range 40 {
		s := modelStep{kind: calls, replica: rapid.IntRange(0, p.replicas-1).Draw(rt, "replica"), key: rapid.IntRange(0, len(p.limits)-1).Draw(rt, "key")}
		if k := stepKind(rapid.IntRange(0, 11).Draw(rt, "kind")); k < stepKinds {
			s.kind = k
		} else if k > 9 {
			s.kind = sleep
		}
		switch s.kind {
		case calls:
			s.count = rapid.IntRange(1, 2*int(p.limits[s.key])).Draw(rt, "calls")
			s.cost = rapid.SampledFrom([]uint32{1, 1, 1, 2, 30}).Draw(rt, "cost")
			s.late = rapid.SampledFrom([]time.Duration{0, 0, 100 * time.Millisecond}).Draw(rt, "late")
			s.apart = rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 100 * time.Millisecond, time.Second}).Draw(rt, "apart")
			if s.apart > 0 {
				s.count = min(s.count, 200)
			}
		case sleep:
			s.length = rapid.SampledFrom([]time.Duration{
				time.Millisecond, 150 * time.Millisecond, time.Second, 4900 * time.Millisecond, 30 * time.Second, 56900 * time.Millisecond, 58 * time.Second,
				time.Minute, 3 * time.Minute, 30 * time.Minute, 58 * time.Minute, 59 * time.Minute, time.Hour, 61 * time.Minute,
			}).Draw(rt, "length")
			s.align = rapid.SampledFrom([]time.Duration{0, time.Millisecond, 59 * time.Second, 59900 * time.Millisecond}).Draw(rt, "align")
		case linkState:
			s.link = linkKind(rapid.IntRange(0, int(linkKinds)-1).Draw(rt, "link"))
		case failover:
			s.keep = rapid.Bool().Draw(rt, "keep")
			s.jump = rapid.SampledFrom([]time.Duration{0, -time.Second, -20 * time.Minute}).Draw(rt, "jump")
			if p.jumping {
				s.jump = rapid.SampledFrom([]time.Duration{0, time.Second, 20 * time.Minute, 2 * time.Hour}).Draw(rt, "jump ahead")
			}
		case crash, restart:
			if p.jumping {
				s.kind, s.length = sleep, time.Minute
			}
		}
		p.steps = append(p.steps, s)
	}
	return p
}

// site is the engine and what becomes of it.
type site struct {
	mu          sync.Mutex
	memory      *lease.Memory
	offset      atomic.Int64 // of its clock, in nanoseconds
	confirmed   map[apikey.KeyID]lease.Account
	generation  int
	lostAnswers int
}

// link is one replica's connection to the engine.
type link struct {
	site *site
	mu   sync.Mutex
	kind linkKind
}

var errLink = errors.New("the connection is cut")

func (k *link) state() linkKind {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kind
}

func (k *link) Exchange(ctx context.Context, requests []lease.Request, grants []lease.Grant) error {
	kind := k.state()
	switch kind {
	case refuses:
		return errLink
	case hangs:
		<-ctx.Done()
		return ctx.Err()
	case comesLate:
		<-ctx.Done()
	case slowly:
		time.Sleep(150 * time.Millisecond)
	}
	k.site.mu.Lock()
	err := k.site.memory.Exchange(context.WithoutCancel(ctx), requests, grants)
	if kind == losesReply || kind == comesLate {
		k.site.lostAnswers++
		k.site.mu.Unlock()
		return errLink
	}
	k.site.confirmed = k.site.memory.Snapshot()
	k.site.mu.Unlock()
	if kind == slowly {
		time.Sleep(150 * time.Millisecond)
	}
	return err
}

func (k *link) Replicas(ctx context.Context, replica uint64) (int, error) {
	if k.state() != works {
		return 0, errLink
	}
	return k.site.memory.Replicas(ctx, replica)
}

// modelReplica is one replica: its clock, its connection, its limiter.
type modelReplica struct {
	*link
	now     func() time.Time
	limiter *lease.Limiter
	cancel  context.CancelFunc
	group   sync.WaitGroup
}

func (r *modelReplica) start(ctx context.Context) error {
	var err error
	if r.limiter, err = lease.New(lease.Options{Engine: r.link, Now: r.now, Logger: discard}); err != nil {
		return err
	}
	ctx, r.cancel = context.WithCancel(ctx)
	r.group.Go(func() { _ = r.limiter.Run(ctx) })
	return nil
}

// stop ends a replica, gently or not.
func (r *modelReplica) stop(ctx context.Context, gently bool) error {
	if !gently {
		r.link.mu.Lock()
		was := r.kind
		r.kind = refuses
		r.link.mu.Unlock()
		defer func() {
			r.link.mu.Lock()
			r.kind = was
			r.link.mu.Unlock()
		}()
	}
	r.cancel()
	r.group.Wait()
	return r.limiter.Close(ctx)
}

// call is one that passed.
type call struct {
	at     time.Time
	tokens uint32
}

func (p *plan) play(ctx context.Context, tally *tally) (err error) {
	start := time.Now()
	s := &site{}
	s.memory = &lease.Memory{Now: func() time.Time { return time.Now().Add(time.Duration(s.offset.Load())) }}
	var replicas []*modelReplica
	defer func() {
		for _, r := range replicas {
			err = errors.Join(err, r.stop(ctx, false))
		}
	}()
	for i := range p.replicas {
		r := &modelReplica{link: &link{site: s}, now: func() time.Time {
			passed := time.Duration(float64(time.Since(start)) * p.rates[i])
			return start.Add(p.offsets[i] + passed)
		}}
		if err := r.start(ctx); err != nil {
			return err
		}
		replicas = append(replicas, r)
	}
	time.Sleep(time.Second)
	logs := make([][]call, len(p.limits))
	if p.jumping {
		// All have seen the first machine.
		for _, r := range replicas {
			for k := range p.limits {
				p.call(ctx, r, k, &modelStep{cost: 1, count: 1}, &logs[k], tally)
			}
		}
	}
	for i := range p.steps {
		step := &p.steps[i]
		tally.steps++
		r := replicas[step.replica]
		switch step.kind {
		case calls:
			p.call(ctx, r, step.key, step, &logs[step.key], tally)
		case sleep:
			time.Sleep(step.length)
			if step.align > 0 {
				into := time.Duration(s.memory.Now().UnixMilli()%60_000) * time.Millisecond
				time.Sleep((step.align - into + time.Minute) % time.Minute)
			}
		case linkState:
			r.link.mu.Lock()
			r.kind = step.link
			r.link.mu.Unlock()
		case crash, restart:
			tally.crashes++
			if err := r.stop(ctx, step.kind == restart); err != nil {
				return err
			}
			if err := r.start(ctx); err != nil {
				return err
			}
		case failover:
			tally.failovers++
			s.mu.Lock()
			s.generation++
			state := s.confirmed
			if step.keep {
				state = s.memory.Snapshot()
			}
			s.memory.Restore(state, strconv.Itoa(s.generation))
			s.offset.Add(int64(step.jump))
			s.mu.Unlock()
		}
	}
	for k := range logs {
		if err := tally.check(logs[k], p.limits[k]); err != nil {
			return err
		}
	}
	return p.end(ctx, replicas, logs, tally)
}

// call makes calls of a key, some of which may wait.
func (p *plan) call(ctx context.Context, r *modelReplica, k int, step *modelStep, log *[]call, tally *tally) {
	key := &apikey.Key{ID: apikey.KeyID(k + 1), RateLimitPerHour: p.limits[k]}
	var mu sync.Mutex
	var group sync.WaitGroup
	for range step.count {
		tally.calls++
		group.Go(func() {
			result, err := r.limiter.Spend(ctx, key, step.cost, r.now().Add(-step.late))
			if err != nil || !result.Allowed {
				return
			}
			mu.Lock()
			*log = append(*log, call{time.Now(), step.cost})
			mu.Unlock()
		})
		if step.apart > 0 {
			time.Sleep(step.apart)
		}
	}
	group.Wait()
}

// check looks at every closed span of 60 minutes that ends with a call.
func (c *tally) check(log []call, most uint32) error {
	slices.SortFunc(log, func(a, b call) int { return a.at.Compare(b.at) })
	first, sum := 0, uint32(0)
	for i := range log {
		c.allowed++
		sum += log[i].tokens
		for log[i].at.Sub(log[first].at) > time.Hour {
			sum -= log[first].tokens
			first++
		}
		if sum > most {
			c.overLimit++
			return fmt.Errorf("%d tokens of %d were spent from %v to %v", sum, most, log[first].at, log[i].at)
		}
	}
	return nil
}

// end heals everything and expects the whole limit to come back.
func (p *plan) end(ctx context.Context, replicas []*modelReplica, logs [][]call, tally *tally) error {
	for _, r := range replicas {
		r.link.mu.Lock()
		r.kind = works
		r.link.mu.Unlock()
	}
	s := replicas[0].site
	if s.offset.Load() < 0 {
		s.offset.Store(0)
		time.Sleep(40 * time.Minute) // for an account whose time was ahead
	}
	time.Sleep(3 * time.Hour)
	last := make([][]call, len(logs))
	for k, most := range p.limits {
		p.call(ctx, replicas[0], k, &modelStep{cost: 1, count: int(most)}, &last[k], tally)
		if got := len(last[k]); got != int(most) && !p.jumping {
			tally.lost++
			return fmt.Errorf("%d calls of %d passed after all was healed for hours", got, most)
		}
		if err := tally.check(slices.Concat(logs[k], last[k]), most); err != nil {
			return err
		}
	}
	for _, r := range replicas {
		tally.exchanges += r.limiter.Stats().Exchanges
		if err := r.stop(ctx, true); err != nil {
			return err
		}
	}
	tally.lostAnswers += s.lostAnswers
	return nil
}
