package usage

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// foldBatch is how many keys one change of the journal folds.
const foldBatch = 1024

// cycle is the folding of all keys that waited for it at one moment, spread
// over several steps.
type cycle struct {
	active bool
	keys   []apikey.KeyID // still to be folded, ascending
	step   int            // how many of them a step folds
	last   uint64         // entries up to this one are no longer needed in the end
	next   time.Time      // when another cycle begins
}

// foldSome folds as many keys as a step that began then should. All that is
// open has been logged.
func (r *Recorder) foldSome(ctx context.Context, began time.Time) error {
	hurry := r.beginCycle(began)
	c := &r.cycle
	if !c.active {
		return nil
	}
	for folded := 0; len(c.keys) > 0 || r.folding != nil; {
		if r.folding == nil {
			r.nextFold()
		}
		if err := r.journal.Fold(ctx, r.folding); err != nil {
			return err
		}
		r.mu.Lock()
		r.folding = nil
		r.mu.Unlock()
		folded += foldBatch
		// The next entry must not be late.
		if late := time.Since(began) > r.options.Every/2; !hurry && (folded >= c.step || late) {
			break
		}
	}
	if len(c.keys) > 0 || r.folding != nil {
		return nil
	}
	if err := r.journal.Trim(ctx, c.last); err != nil {
		return err
	}
	c.active, c.keys = false, nil
	return nil
}

// beginCycle begins a cycle where one is due, and reports whether it should
// end at once for want of room.
func (r *Recorder) beginCycle(now time.Time) (hurry bool) {
	c := &r.cycle
	r.mu.Lock()
	defer r.mu.Unlock()
	hurry = r.waiting > r.options.Capacity/2
	if c.active || len(r.open) == 0 || !hurry && now.Before(c.next) {
		return hurry
	}
	// Half of the time until the next one is for whatever slows it down.
	steps := max(1, int(r.options.FoldEvery/2/r.options.Every))
	*c = cycle{
		active: true, keys: slices.Sorted(maps.Keys(r.open)), step: len(r.open)/steps + 1,
		last: r.number, next: now.Add(r.options.FoldEvery),
	}
	return hurry
}

// nextFold takes the next keys of the cycle out of what is open.
func (r *Recorder) nextFold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.cycle.keys[:min(foldBatch, len(r.cycle.keys))]
	r.cycle.keys = r.cycle.keys[len(keys):]
	r.number++
	fold := &Fold{Number: r.number, Now: r.options.Now(), Deltas: make([]Delta, 0, 2*len(keys))}
	for _, key := range keys {
		for _, p := range r.open[key] {
			fold.Deltas = append(fold.Deltas, Delta{Key: key, Minute: p.Start, Counts: p.Counts})
		}
		r.waiting -= len(r.open[key])
		delete(r.open, key)
	}
	r.folding = fold
}
