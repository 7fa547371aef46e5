package etcd

import (
	"net/netip"
	"slices"
	"sort"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
)

const (
	// mostWindows is how many addresses are counted at a time.
	mostWindows = 1 << 16
	// unblockKept is for how long it is told that an address was unblocked.
	unblockKept = 10 * time.Minute
)

// blockState is what follows from all events, in their order. All replicas
// come to the same, for it depends on nothing else.
type blockState struct {
	windows map[netip.Prefix]*blockWindow
	opened  []*blockWindow // in this order
	changes []blockChange  // by number
	heard   map[string]uint64
	last    uint64 // number of the last change
}

// blockWindow are the failures of one address; times are in milliseconds of
// the shared clock.
type blockWindow struct {
	prefix   netip.Prefix
	opened   int64
	length   int64
	failures uint32
	reason   apikey.Reason
	blocked  bool
	since    int64
	change   uint64 // number of the change that blocked it
}

// blockChange is a block or an unblock.
type blockChange struct {
	number uint64
	prefix netip.Prefix
	until  int64 // for how long it is told
}

func newBlockState() *blockState {
	return &blockState{windows: map[netip.Prefix]*blockWindow{}, heard: map[string]uint64{}}
}

// apply notes an event, whose revision numbers the changes that it makes. It
// returns what is known after each failure, and whether the address that it
// unblocked was blocked.
func (s *blockState) apply(e *blockEvent, revision int64) (answers []block.Remote, wasBlocked bool) {
	number := uint64(revision) //nolint:gosec // never negative
	s.forget(e.time)
	if e.unblocked.IsValid() {
		w := s.windows[e.unblocked]
		wasBlocked = w != nil && w.blocked && w.open(e.time)
		delete(s.windows, e.unblocked)
		s.change(blockChange{number, e.unblocked, e.time + unblockKept.Milliseconds()})
		return nil, wasBlocked
	}
	for i := range e.failures {
		answers = append(answers, s.fail(&e.failures[i], e.time, number))
	}
	return answers, false
}

func (s *blockState) fail(f *shared.Failure, at int64, number uint64) block.Remote {
	w := s.windows[f.Prefix]
	if w != nil {
		at = max(at, w.opened) // clocks of replicas differ a little
	}
	if w == nil || !w.open(at) {
		w = &blockWindow{prefix: f.Prefix, opened: at, length: f.Window.Milliseconds()}
		if s.makeRoom() {
			s.windows[f.Prefix] = w
			s.opened = append(s.opened, w)
		}
	}
	w.failures++
	w.reason = f.Reason
	if w.failures >= f.Threshold && !w.blocked {
		w.blocked, w.since, w.change = true, at, number
		s.change(blockChange{number, f.Prefix, w.opened + w.length})
	}
	return w.remote(at)
}

func (w *blockWindow) open(at int64) bool { return at-w.opened < w.length }

func (w *blockWindow) remote(at int64) block.Remote {
	r := block.Remote{Prefix: w.prefix, Age: milliseconds(at - w.opened), Failures: w.failures, Reason: w.reason, Blocked: w.blocked}
	if w.blocked {
		r.BlockedAgo = milliseconds(at - w.since)
	}
	return r
}

func milliseconds(n int64) time.Duration { return time.Duration(max(0, n)) * time.Millisecond }

func (s *blockState) change(c blockChange) {
	s.changes = append(s.changes, c)
	s.last = c.number
}

// forget drops what closed.
func (s *blockState) forget(at int64) {
	n := 0
	for n < len(s.opened) && !s.opened[n].open(at) {
		s.drop(s.opened[n])
		n++
	}
	s.opened = slices.Delete(s.opened, 0, n)
	n = 0
	for n < len(s.changes) && s.changes[n].until <= at {
		n++
	}
	s.changes = slices.Delete(s.changes, 0, n)
}

func (s *blockState) drop(w *blockWindow) {
	if s.windows[w.prefix] == w { // else it was unblocked, or opened anew
		delete(s.windows, w.prefix)
	}
}

// makeRoom forgets the oldest addresses that are not blocked where there are
// too many, and reports whether there is room for another.
func (s *blockState) makeRoom() bool {
	const tries = 16
	for range tries {
		if len(s.windows) < mostWindows && len(s.opened) < 2*mostWindows {
			return true
		}
		oldest := s.opened[0]
		s.opened = s.opened[1:]
		if s.windows[oldest.prefix] == oldest && oldest.blocked {
			s.opened = append(s.opened, oldest)
			continue
		}
		s.drop(oldest)
	}
	return len(s.windows) < mostWindows
}

// after returns the changes after a number that still hold.
func (s *blockState) after(number uint64, at int64) shared.Changes {
	told := shared.Changes{Number: s.last, Last: s.last}
	first := sort.Search(len(s.changes), func(i int) bool { return s.changes[i].number > number })
	for _, c := range s.changes[first:] {
		w := s.windows[c.prefix]
		switch {
		case c.until <= at:
		case w != nil && w.blocked:
			if w.change == c.number {
				told.Blocked = append(told.Blocked, w.remote(at))
			}
		default:
			told.Unblocked = append(told.Unblocked, c.prefix)
		}
	}
	return told
}

// least returns the number up to which all replicas know of changes.
func (s *blockState) least() uint64 {
	least := s.last
	for _, heard := range s.heard {
		least = min(least, heard)
	}
	return least
}
