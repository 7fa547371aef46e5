package usagefile

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
)

// expireBatch is how many histories one change shortens.
const expireBatch = 1000

// Expire implements [usage.Journal]. It removes records of keys that are no
// longer in use, once nothing in them is to be kept; the records of others are
// shortened when they change. What they owe moves on first.
func (f *File) Expire(ctx context.Context, now time.Time) error {
	for n := range levels {
		ids, err := f.stale(ctx, n, now)
		if err != nil {
			return err
		}
		for batch := range slices.Chunk(ids, expireBatch) {
			if err := f.file.Update(ctx, func(tx *boltfile.Tx) error { return f.work(tx, now).expire(n, batch) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// stale returns the keys whose record has nothing that is to be kept.
func (f *File) stale(ctx context.Context, n int, now time.Time) (ids []apikey.KeyID, err error) {
	err = f.file.View(ctx, func(tx *boltfile.Tx) error {
		w := f.work(tx, now)
		r := &w.records[n]
		return tx.Scan(levels[n].bucket, nil, func(key, value []byte) error {
			id, err := decodeKey(key)
			if err := errors.Join(err, r.decode(n, value)); err != nil {
				return damaged(levels[n].bucket, key, err)
			}
			if w.stale(n) {
				ids = append(ids, id)
			}
			return ctx.Err()
		})
	})
	return ids, err
}

func (w *work) stale(n int) bool {
	newest, found := w.records[n].newest()
	return !found || w.expired(n, newest)
}

func (w *work) expire(n int, ids []apikey.KeyID) error {
	first, err := oldest(w.tx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		key := appendKey(nil, id)
		r := &w.records[n]
		if err := get(w.tx, n, key, r); err != nil {
			return err
		}
		// It may have changed since, and older entries must go on counting for
		// nothing.
		if !w.stale(n) || n == 0 && r.last >= first {
			continue
		}
		if err := w.settle(n, id, key, true); err != nil {
			return err
		}
		if len(r.kept) > 0 { // of a future that is too far to be seen
			err = w.put(n, key)
		} else {
			err = w.tx.Delete(levels[n].bucket, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
