package usage

import (
	"context"
	"maps"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// forgotten says how far a key has been forgotten.
type forgotten struct {
	at   time.Time
	done bool // in the journal, too
}

const (
	// forgetTime is for how long calls of a deleted key may still arrive.
	forgetTime = time.Minute
	// forgetBatch is how many histories one change removes.
	forgetBatch = 1000
)

// Forget removes the history of a key that was deleted: from [Recorder.Series]
// at once, and from the disk with the next write. Calls of the key that arrive
// late are not counted. A process that is killed in between leaves the history
// to be removed when it is too old.
func (r *Recorder) Forget(id apikey.KeyID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten[id] = forgotten{at: time.Now()}
	r.waiting -= len(r.open[id])
	delete(r.open, id)
}

// forgetSome forgets in the journal what it does not yet know of.
func (r *Recorder) forgetSome(ctx context.Context) error {
	for {
		number, ids := r.forgetNext()
		if len(ids) == 0 {
			return nil
		}
		if err := r.journal.Forget(ctx, number, ids); err != nil {
			return err
		}
		r.mu.Lock()
		for _, id := range ids {
			f := r.forgotten[id]
			f.done = true
			r.forgotten[id] = f
		}
		r.mu.Unlock()
	}
}

// forgetNext returns the keys of the next change and its number.
func (r *Recorder) forgetNext() (number uint64, ids []apikey.KeyID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(r.forgotten, func(_ apikey.KeyID, f forgotten) bool { return f.done && now.Sub(f.at) > forgetTime })
	for id, f := range r.forgotten {
		if !f.done && len(ids) < forgetBatch {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		r.number++
	}
	return r.number, ids
}
