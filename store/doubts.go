package store

import (
	"sync"
	"sync/atomic"

	"github.com/tokenkithq/authz/apikey"
)

// maxDoubts bounds the changes with an unknown outcome that are remembered.
// Beyond it nothing more is cached: slow, and right.
const maxDoubts = 10_000

// doubts are the marks of changes to keys that are under way, or were answered
// without being known to be made or not. The zero value holds none.
type doubts struct {
	underWay atomic.Int64 // changes
	unknown  atomic.Int64 // changes of unknown outcome

	mu        sync.Mutex
	deletions map[apikey.KeyID]int // how many are under way
	creations map[apikey.Hash]int  // how many are under way or of unknown outcome
	lasting   map[apikey.KeyID]struct{}
	lost      bool // there were more than maxDoubts of unknown outcome
}

// none reports whether no change is under way or may yet be made.
func (d *doubts) none() bool { return d.underWay.Load() == 0 && d.unknown.Load() == 0 }

// deleting reports whether the deletion of a key is under way.
func (d *doubts) deleting(id apikey.KeyID) bool {
	if d.underWay.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deletions[id] != 0
}

func (d *doubts) beginDelete(id apikey.KeyID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay.Add(1)
	if d.deletions == nil {
		d.deletions = map[apikey.KeyID]int{}
	}
	d.deletions[id]++
}

// keepDoubting makes the doubt about a deletion outlast it.
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

func (d *doubts) endDelete(id apikey.KeyID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.underWay.Add(-1)
	if d.deletions[id]--; d.deletions[id] == 0 {
		delete(d.deletions, id)
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

// mayEnter reports whether a key may be cached: not while it may yet be
// deleted by a change that was answered.
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
