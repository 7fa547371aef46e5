package store

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tokenkithq/authz/apikey"
)

// maxDoubts bounds the changes with an unknown outcome that are remembered.
// Beyond it nothing more is cached: slow, and right.
const maxDoubts = 10_000

// refusal is an error of the function that a change was given, so that nothing
// was changed.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// refusing returns change with its errors as refusals.
func refusing(change func(*apikey.Key) error) func(*apikey.Key) error {
	return func(key *apikey.Key) error {
		if err := change(key); err != nil {
			return refusal{err}
		}
		return nil
	}
}

// uncertain reports whether a change that was answered with err may have been
// made, or may be made yet.
func uncertain(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrUnavailable) {
		return true
	}
	var refused refusal
	var field *apikey.FieldError
	return !errors.As(err, &refused) && !errors.As(err, &field) &&
		!slices.ContainsFunc([]error{ErrNotFound, ErrExists, ErrConflict, ErrInUse, ErrLastOwner, ErrFull}, func(is error) bool { return errors.Is(err, is) })
}

// doubts are the marks of changes to keys that are under way, or were answered
// without being known to be made or not. The zero value holds none.
type doubts struct {
	underWay atomic.Int64 // changes
	unknown  atomic.Int64 // changes of unknown outcome

	mu        sync.Mutex
	changes   map[apikey.KeyID]int // how many are under way
	creations map[apikey.Hash]int  // how many that give a key this hash are under way or of unknown outcome
	lasting   map[apikey.KeyID]struct{}
	lost      bool // there were more than maxDoubts of unknown outcome
}

// none reports whether no change is under way or may yet be made.
func (d *doubts) none() bool { return d.underWay.Load() == 0 && d.unknown.Load() == 0 }

// changing reports whether a change of a key is under way.
func (d *doubts) changing(id apikey.KeyID) bool {
	if d.underWay.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changes[id] != 0
}

func (d *doubts) beginChange(id apikey.KeyID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay.Add(1)
	if d.changes == nil {
		d.changes = map[apikey.KeyID]int{}
	}
	d.changes[id]++
}

// keepDoubting makes the doubt about a change of a key outlast it.
func (d *doubts) keepDoubting(id apikey.KeyID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost = d.unknown.Add(1) > maxDoubts; d.lost {
		return
	}
	if d.lasting == nil {
		d.lasting = map[apikey.KeyID]struct{}{}
	}
	d.lasting[id] = struct{}{}
}

func (d *doubts) endChange(id apikey.KeyID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay.Add(-1)
	if d.changes[id]--; d.changes[id] == 0 {
		delete(d.changes, id)
	}
}

func (d *doubts) beginCreate(hash apikey.Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay.Add(1)
	if d.creations == nil {
		d.creations = map[apikey.Hash]int{}
	}
	d.creations[hash]++
}

// endCreate removes the mark of a creation whose outcome is known.
func (d *doubts) endCreate(hash apikey.Hash, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay.Add(-1)
	if !known {
		if d.lost = d.unknown.Add(1) > maxDoubts; !d.lost {
			return
		}
	}
	if d.creations[hash]--; d.creations[hash] == 0 {
		delete(d.creations, hash)
	}
}

// mayEnter reports whether a key may be cached: not while it may yet be changed
// or deleted by a change that was answered.
func (d *doubts) mayEnter(id apikey.KeyID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, doubtful := d.lasting[id]
	return !doubtful && !d.lost
}

// mayEnterAbsent reports whether it may be cached that no key has hash: not
// while one may yet be created.
func (d *doubts) mayEnterAbsent(hash apikey.Hash) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.creations[hash] == 0 && !d.lost
}
