package usagefile

import (
	"context"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/usage"
)

// get reads the record of a key into r, which is empty where there is none.
func get(tx *boltfile.Tx, n int, key []byte, r *record) error {
	value, err := tx.Get(levels[n].bucket, key)
	if err != nil {
		return err
	}
	if value == nil {
		r.reset()
		return nil
	}
	if err := r.decode(n, value); err != nil {
		return damaged(levels[n].bucket, key, err)
	}
	return nil
}

// work is one change of histories.
type work struct {
	tx      *boltfile.Tx
	keep    [len(levels)]int64
	now     int64 // in minutes
	records [len(levels)]record
	scratch []byte
}

func (f *File) work(tx *boltfile.Tx, now time.Time) *work {
	return &work{tx: tx, keep: f.keep, now: now.Unix() / 60}
}

func (w *work) put(n int, key []byte) error {
	w.scratch = w.records[n].encode(w.scratch[:0], n)
	return w.tx.Put(levels[n].bucket, key, w.scratch)
}

// Fold implements [usage.Journal].
func (f *File) Fold(ctx context.Context, fold *usage.Fold) error {
	return f.file.Update(ctx, func(tx *boltfile.Tx) error {
		w := f.work(tx, fold.Now)
		for rest := fold.Deltas; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].Key == rest[0].Key {
				n++
			}
			if err := w.fold(fold.Number, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return tx.SetSequence(logBucket, fold.Number)
	})
}

// fold adds the deltas of one key.
func (w *work) fold(number uint64, deltas []usage.Delta) error {
	id := deltas[0].Key
	key := appendKey(nil, id)
	r := &w.records[0]
	if err := get(w.tx, 0, key, r); err != nil {
		return err
	}
	if r.last >= number {
		return nil
	}
	r.last = number
	for i := range deltas {
		w.add(0, deltas[i].Minute, &deltas[i].Counts)
	}
	if err := w.settle(0, id, key, false); err != nil {
		return err
	}
	return w.put(0, key)
}

// add adds calls to a level's record, and to what that owes.
func (w *work) add(n int, minute int64, counts *usage.Counts) {
	r := &w.records[n]
	r.kept = add(r.kept, levels[n].resolution.Start(minute), counts)
	if n+1 < len(levels) {
		r.owed = add(r.owed, next(n).Start(minute), counts)
	}
}

// settle removes from a level's record what is too old, and moves what it owes
// to the next level if that is due, or in any case.
func (w *work) settle(n int, id apikey.KeyID, key []byte, all bool) error {
	r := &w.records[n]
	r.kept = slices.DeleteFunc(r.kept, func(p usage.Period) bool { return w.expired(n, p.Start) })
	if len(r.owed) == 0 || !all && !w.due(n, id) {
		return nil
	}
	if err := get(w.tx, n+1, key, &w.records[n+1]); err != nil {
		return err
	}
	for i := range r.owed {
		w.add(n+1, r.owed[i].Start, &r.owed[i].Counts)
	}
	r.owed = r.owed[:0]
	if err := w.settle(n+1, id, key, all); err != nil {
		return err
	}
	return w.put(n+1, key)
}

// expired reports whether a period is too old to be kept, or as far in the
// future.
func (w *work) expired(n int, start int64) bool {
	return start+levels[n].resolution.Minutes() <= w.now-w.keep[n] || start >= w.now+w.keep[n]
}

// due reports whether what a level owes should move on: a period is over, and
// the time of this key has come, so that not all keys move at the same time.
func (w *work) due(n int, id apikey.KeyID) bool {
	minute := w.now % (24 * 60)
	turn := minute%60 >= int64(id)%60
	if n > 0 {
		turn = minute/60 >= int64(id)/60%24
	}
	owed := len(w.records[n].owed)
	return owed > 2 || owed == 2 && turn
}

// Forget implements [usage.Journal]. What it leaves of a history is the number
// of this change, until no older entry is in the log.
func (f *File) Forget(ctx context.Context, number uint64, keys []apikey.KeyID) error {
	keys = slices.Clone(keys)
	return f.file.Update(ctx, func(tx *boltfile.Tx) error {
		w := &work{tx: tx}
		w.records[0].last = number
		for _, id := range keys {
			key := appendKey(nil, id)
			if err := w.put(0, key); err != nil {
				return err
			}
			for _, l := range levels[1:] {
				if err := tx.Delete(l.bucket, key); err != nil {
					return err
				}
			}
		}
		return tx.SetSequence(logBucket, number)
	})
}

// Read implements [usage.Journal].
func (f *File) Read(ctx context.Context, query *usage.Query, fn func(key apikey.KeyID, last uint64, periods []usage.Period)) error {
	return f.file.View(ctx, func(tx *boltfile.Tx) error {
		var r record
		var periods []usage.Period
		for _, id := range query.Keys {
			key := appendKey(nil, id)
			var last uint64
			periods = periods[:0]
			// What shorter periods owe is part of longer ones.
			for n := range levels {
				if err := get(tx, n, key, &r); err != nil {
					return err
				}
				if n == 0 {
					last = r.last
				}
				if levels[n].resolution == query.Resolution {
					periods = append(periods, r.kept...)
					break
				}
				periods = append(periods, r.owed...)
			}
			fn(id, last, periods)
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}
