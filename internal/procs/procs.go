// Package procs keeps the number of processors on which the Go runtime runs
// goroutines as small as the work allows.
//
//	governor := procs.New(procs.Options{})
//	go governor.Run(ctx)
//	...
//	done := governor.Need() // a processor's worth of work that others must not wait for
//	hash(password)
//	done()
//
// A goroutine that becomes ready wakes another thread, which looks for more to
// do, finds nothing and sleeps again. Where requests are short and come one by
// one, that costs about as much as the requests do: a Check half of its CPU
// time (see docs/performance.md). On one processor there is nobody to wake. So
// the governor begins with what the runtime would use, and takes processors
// away while the process needs but part of them; as soon as it needs more, it
// gives them back.
//
// A goroutine that waits in the kernel, for a disk to sync, keeps its processor
// until a thread of the runtime, which looks up to ten milliseconds later,
// finds out. Where there is but one, all others wait as well. So while such
// waiting is more than a little, there are two.
package procs

import (
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// interval is how often the governor looks.
	interval = 100 * time.Millisecond
	// busy is the share of the processors whose use asks for twice as many.
	busy = 0.7
	// full is the share from which on nobody knows how many it takes.
	full = 0.9
	// calm is the share of half of the processors below which half is enough.
	calm = 0.5
	// calmTime is for how long that must hold.
	calmTime = 5 * time.Second
	// waiting is the share of the time in the kernel from which on one
	// processor is too few: fewer calls than one in a hundred should notice.
	waiting = 0.03
	// waitingTime is over how long that share is taken.
	waitingTime = 10 * time.Second
)

// Options say between what a [Governor] chooses. The zero value is useful.
type Options struct {
	// Fixed is how many processors are used, always. Zero: as many as the
	// work needs, up to what the runtime uses by itself; where the
	// environment sets GOMAXPROCS, that many.
	Fixed int
}

// Governor sets GOMAXPROCS of the process, of which there must be one at most.
// Its methods may be called by several goroutines.
type Governor struct {
	limit int // most processors
	fixed bool
	used  func() (time.Duration, error) // CPU time of the process so far

	waits atomic.Int64 // nanoseconds of [Governor.Waited] since the last look

	apply func(int)

	mu      sync.Mutex
	procs   int
	needs   int           // calls of Need that are not done
	seen    time.Time     // of the last look
	before  time.Duration // CPU time then
	busyAt  time.Time     // when half was last not enough
	failure error         // of reading the CPU time
	waited  float64       // the share of the time that was waited in the kernel
}

// New returns a governor and sets what o fixes.
func New(o Options) *Governor {
	g := &Governor{used: ProcessTime, apply: func(n int) { runtime.GOMAXPROCS(n) }}
	if o.Fixed > 0 {
		g.apply(o.Fixed)
	}
	g.begin(runtime.GOMAXPROCS(0), o.Fixed > 0 || os.Getenv("GOMAXPROCS") != "", time.Now())
	return g
}

func (g *Governor) begin(limit int, fixed bool, now time.Time) {
	g.limit, g.procs, g.fixed = limit, limit, fixed || limit == 1
	g.seen, g.busyAt = now, now
	g.before, g.failure = g.used()
}

// Run adapts the number of processors until ctx is done, and then gives back
// what it took. It returns nil.
func (g *Governor) Run(ctx context.Context) error {
	if g.fixed {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			g.mu.Lock()
			defer g.mu.Unlock()
			g.set(g.limit)
			return nil
		case now := <-tick.C:
			g.look(now)
		}
	}
}

// Procs returns how many processors are used, and how many may be.
func (g *Governor) Procs() (now, most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.procs, g.limit
}

// Need adds a processor, where there is one, until the returned function is
// called, for work that keeps one busy for milliseconds.
func (g *Governor) Need() (done func()) {
	if g.fixed {
		return func() {}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.needs++
	g.set(max(g.procs, min(g.limit, 1+g.needs)))
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.needs--
		g.busyAt = time.Now()
	})
}

// Waited says that a goroutine was in the kernel for so long, waiting for a
// disk. It waits for nothing.
func (g *Governor) Waited(d time.Duration) { g.waits.Add(int64(d)) }

// look compares what the process used since the last time with what it has.
func (g *Governor) look(now time.Time) {
	used, err := g.used()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil || g.failure != nil { // nothing is known
		g.failure = err
		g.before, g.seen = used, now
		g.set(g.limit)
		return
	}
	passed := now.Sub(g.seen)
	if passed <= 0 {
		return
	}
	share := float64(used-g.before) / float64(passed) // processors that were busy
	g.before, g.seen = used, now
	recent := min(1, float64(passed)/float64(waitingTime))
	g.waited += recent * (float64(g.waits.Swap(0))/float64(passed) - g.waited)
	least := 1
	if g.waited > waiting {
		least = min(2, g.limit)
	}
	half := (g.procs + 1) / 2
	switch {
	case share >= full*float64(g.procs):
		g.busyAt = now
		g.set(g.limit)
	case share >= busy*float64(g.procs):
		g.busyAt = now
		g.set(min(g.limit, 2*g.procs))
	case g.procs < least:
		g.busyAt = now
		g.set(least)
	case share > calm*float64(half) || g.needs > 0 || half < least:
		g.busyAt = now
	case now.Sub(g.busyAt) >= calmTime:
		g.busyAt = now
		g.set(half)
	}
}

func (g *Governor) set(procs int) {
	if procs != g.procs {
		g.procs = procs
		g.apply(procs)
	}
}
