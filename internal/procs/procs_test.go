package procs

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// machine is a process that keeps a number of processors busy.
type machine struct {
	busy float64
	used time.Duration
	err  error
	set  []int
}

func (m *machine) governor(limit int) *Governor {
	g := &Governor{
		used:  func() (time.Duration, error) { return m.used, m.err },
		apply: func(n int) { m.set = append(m.set, n) },
	}
	g.begin(limit, false, time.Now())
	return g
}

// pass lets time pass, looking as often as Run does.
func (m *machine) pass(g *Governor, d time.Duration) {
	for range d / interval {
		time.Sleep(interval)
		m.used += time.Duration(m.busy * float64(interval))
		g.look(time.Now())
	}
}

func TestGovernorFollowsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{busy: 0.3}
		g := m.governor(6)
		expect := func(what string, want ...int) {
			t.Helper()
			if !slices.Equal(m.set, want) {
				t.Errorf("%s: processors were set to %v, expected %v", what, m.set, want)
			}
			m.set = nil
		}
		m.pass(g, calmTime-interval)
		expect("before it is known to be calm")
		m.pass(g, 20*time.Second)
		expect("calm", 3, 2, 1)
		m.busy = 0.69
		m.pass(g, 20*time.Second)
		expect("nearly busy")
		m.busy = 0.7
		m.pass(g, interval)
		expect("busy", 2)
		m.busy = 0.51
		m.pass(g, 20*time.Second)
		expect("too much for one")
		m.busy = 0.5
		m.pass(g, calmTime-interval)
		m.busy = 0.6 // once
		m.pass(g, interval)
		m.busy = 0.5
		m.pass(g, calmTime-interval)
		expect("calm, but not for long enough")
		m.busy = 1.5
		m.pass(g, interval)
		expect("busy again", 4)
		m.busy = 3.6
		m.pass(g, interval)
		expect("full", 6)
		m.busy = 6
		m.pass(g, time.Second)
		expect("no more than there are")
	})
}

func TestNeedAddsProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		g := m.governor(3)
		m.pass(g, time.Minute)
		m.set = nil
		var done []func()
		for range 3 {
			done = append(done, g.Need())
		}
		if want := []int{2, 3}; !slices.Equal(m.set, want) {
			t.Errorf("three that need a processor: set to %v, expected %v", m.set, want)
		}
		m.set = nil
		done[0]()
		done[0]()
		done[1]()
		m.pass(g, time.Minute)
		if len(m.set) != 0 {
			t.Errorf("one still needs a processor: set to %v, expected nothing", m.set)
		}
		done[2]()
		m.pass(g, calmTime-interval)
		if len(m.set) != 0 {
			t.Errorf("right afterwards: set to %v, expected nothing", m.set)
		}
		m.pass(g, time.Minute)
		if want := []int{2, 1}; !slices.Equal(m.set, want) {
			t.Errorf("nobody needs one: set to %v, expected %v", m.set, want)
		}
	})
}

func TestWaitingTakesTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		g := m.governor(6)
		wait := func(share float64, d time.Duration) {
			for range d / interval {
				g.Waited(time.Duration(share * float64(interval)))
				m.pass(g, interval)
			}
		}
		wait(0.02, time.Minute)
		if want := []int{3, 2, 1}; !slices.Equal(m.set, want) {
			t.Errorf("little was waited: set to %v, expected %v", m.set, want)
		}
		m.set = nil
		wait(1, 100*time.Millisecond) // as a large batch does, now and then
		wait(0.01, time.Minute)
		if len(m.set) != 0 {
			t.Errorf("much was waited, but once: set to %v, expected nothing", m.set)
		}
		wait(0.2, time.Minute)
		if want := []int{2}; !slices.Equal(m.set, want) {
			t.Errorf("much is waited: set to %v, expected %v", m.set, want)
		}
		m.set, m.busy = nil, 1.5
		m.pass(g, interval)
		m.busy = 0
		wait(0.2, time.Minute)
		if want := []int{4, 2}; !slices.Equal(m.set, want) {
			t.Errorf("much is waited after much work: set to %v, expected %v", m.set, want)
		}
		m.set = nil
		wait(0, time.Minute)
		if want := []int{1}; !slices.Equal(m.set, want) {
			t.Errorf("nothing is waited any more: set to %v, expected %v", m.set, want)
		}
	})
}

func TestUnknownUseTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		g := m.governor(2)
		m.pass(g, time.Minute)
		m.err = errors.New("no such thing")
		m.pass(g, interval)
		if now, most := g.Procs(); now != 2 || most != 2 {
			t.Errorf("%d of %d processors, expected all of 2", now, most)
		}
		m.pass(g, time.Minute)
		m.err = nil
		m.pass(g, calmTime+time.Second)
		if now, _ := g.Procs(); now != 1 {
			t.Errorf("%d processors after it is known again, expected 1", now)
		}
	})
}

func TestRunGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		g := m.governor(2)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- g.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if now, _ := g.Procs(); now != 1 {
			t.Errorf("%d processors, expected 1", now)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if want := []int{1, 2}; !slices.Equal(m.set, want) {
			t.Errorf("set to %v, expected %v", m.set, want)
		}
	})
}

func TestFixed(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	g := New(Options{Fixed: before + 1})
	defer g.Need()()
	if now, most := g.Procs(); now != before+1 || most != before+1 || runtime.GOMAXPROCS(0) != before+1 {
		t.Errorf("%d of %d processors, expected %d", now, most, before+1)
	}
	t.Setenv("GOMAXPROCS", "1")
	if !New(Options{}).fixed {
		t.Error("what the environment says does not hold")
	}
}

func TestProcessTimeGrows(t *testing.T) {
	first, err := ProcessTime()
	for err == nil {
		var now time.Duration
		if now, err = ProcessTime(); now > first {
			return
		}
	}
	t.Fatal(err)
}
