package boltfile

import (
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// epoch counts the reads that began between two repairs.
type epoch struct{ readers sync.RWMutex }

// enter counts a read and returns how to end it.
func (f *File) enter() (leave func()) {
	for {
		e := f.epoch.Load()
		if e.readers.TryRLock() {
			if f.epoch.Load() == e {
				return e.readers.RUnlock
			}
			e.readers.RUnlock()
		}
	}
}

// recoverWrites makes writing safe again after a failed commit, or returns
// why it is not.
//
// Where the data of a commit failed, the library below has forgotten it and
// nothing refers to its pages. Where its meta page or the last sync failed,
// nobody knows which meta page the disk has, and after a failed sync the page
// cache shows as clean what never arrived. Going on would overwrite pages that
// the one on the disk still needs. So the newest meta page, whose data was
// synced, is written once more, and nothing else before that is synced.
func (f *File) recoverWrites() error {
	if f.broken != nil {
		return f.broken
	}
	if !f.suspect {
		return nil
	}
	newest, err := f.rewriteMetas()
	if err != nil {
		return writeError(fmt.Errorf("after a failed commit: %w", err))
	}
	if newest != f.transaction {
		// The library counts as free what that commit freed, though reads that
		// began before it still use it.
		past := f.epoch.Swap(new(epoch))
		f.past = append(f.past, past)
		f.transaction = newest
	}
	for len(f.past) > 0 {
		if !f.past[0].readers.TryLock() {
			return fmt.Errorf("%w: after a failed commit: reads that began before it go on", ErrUnavailable)
		}
		f.past = f.past[1:]
	}
	btx, err := f.db.Begin(true)
	if errors.Is(err, bbolt.ErrInvalidMapping) {
		f.broken = fmt.Errorf("%w: its map was lost; restart the program", ErrUnavailable)
		return f.broken
	}
	if err != nil {
		return writeError(err)
	}
	f.suspect = false
	return btx.Rollback()
}

// rewriteMetas writes both meta pages as they are, or the older one as a copy
// of the newer where it is not whole, and syncs them.
func (f *File) rewriteMetas() (newest uint64, err error) {
	both := make(page, 2*pageSize)
	if _, err := f.raw.ReadAt(both, 0); err != nil {
		return 0, err
	}
	first, firstErr := readMeta(both[:pageSize], 0)
	second, secondErr := readMeta(both[pageSize:], 1)
	if firstErr != nil && secondErr != nil {
		f.broken = damagedf("both meta pages fail their checksum")
		return 0, f.broken
	}
	if firstErr != nil {
		copy(both[:pageSize], both[pageSize:])
		writeMeta(both[:pageSize], second.transaction-1)
		first.transaction = second.transaction - 1
	} else if secondErr != nil {
		copy(both[pageSize:], both[:pageSize])
		writeMeta(both[pageSize:], first.transaction-1)
		second.transaction = first.transaction - 1
	}
	if _, err := f.raw.WriteAt(both, 0); err != nil {
		return 0, err
	}
	if err := unix.Fdatasync(int(f.raw.Fd())); err != nil {
		return 0, err
	}
	return max(first.transaction, second.transaction), nil
}
