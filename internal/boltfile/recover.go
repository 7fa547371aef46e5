package boltfile

import (
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// epoch is one map of the file, and counts the reads that use it.
type epoch struct {
	readers sync.RWMutex
	db      *bbolt.DB
}

// enter counts a read in the present epoch. Its readers must be unlocked when
// the read ends.
func (f *File) enter() *epoch {
	for {
		e := f.epoch.Load()
		if e.readers.TryRLock() {
			if f.epoch.Load() == e {
				return e
			}
			e.readers.RUnlock()
		}
	}
}

// recoverWrites makes writing safe again after a failed commit, or returns
// why it is not yet.
//
// Where the data of a commit could not be written, nothing refers to its
// pages. Where its meta page or the last sync failed, nobody knows which meta
// page the disk has: after a failed sync, Linux shows as written what never
// arrived, and the next sync succeeds without it. To go on would be to
// overwrite pages that the meta page on the disk still needs. So the newest
// meta page, whose data was synced before it, is written once more.
//
// What the library below remembers of free pages is then perhaps that of the
// other meta page. It is made to read the file anew, as after a restart; the
// reads of the old map go on, and the next change waits for them, since the
// new one does not know what they still need.
func (f *File) recoverWrites() error {
	if f.broken != nil {
		return f.broken
	}
	if !f.suspect {
		return nil
	}
	newest, err := f.rewriteMetas()
	if errors.Is(err, ErrDamaged) {
		f.broken = err
		return err
	}
	if err != nil {
		return writeError(fmt.Errorf("after a failed commit: %w", err))
	}
	f.transaction = newest
	if f.past == nil {
		file, err := duplicate(f.raw)
		if err != nil {
			return writeError(err)
		}
		db, err := openMap(f.path, file, f.options)
		if err != nil {
			return writeError(fmt.Errorf("after a failed commit: %w", err))
		}
		f.past = f.epoch.Swap(&epoch{db: db})
	}
	if !f.past.readers.TryLock() {
		return fmt.Errorf("%w: after a failed commit: reads that began before it go on", ErrUnavailable)
	}
	err = f.past.db.Close()
	f.past, f.suspect = nil, false
	if err != nil {
		return writeError(err)
	}
	// Closing gave up the lock that the library takes. The other lock of this
	// package was kept, so this one is for the library's own tools only.
	_ = unix.Flock(int(f.raw.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return nil
}

// newestMeta returns the newest transaction that a whole meta page names.
func (f *File) newestMeta() (uint64, error) {
	_, newest, err := f.readMetas()
	return newest, err
}

// readMetas reads both meta pages. One that is not whole becomes the one that
// stands before the other.
func (f *File) readMetas() (both page, newest uint64, err error) {
	both = make(page, 2*pageSize)
	if _, err := f.raw.ReadAt(both, 0); err != nil {
		return nil, 0, fmt.Errorf("reading the meta pages: %w", err)
	}
	pages := [2]page{both[:pageSize], both[pageSize:]}
	for i, p := range pages {
		m, err := readMeta(p, uint64(i))
		if err == nil {
			newest = max(newest, m.transaction)
			continue
		}
		other, err := readMeta(pages[1-i], uint64(1-i))
		if err != nil {
			return nil, 0, damagedf("both meta pages fail their checksum")
		}
		copy(p, pages[1-i])
		writeMeta(p, other.transaction-1)
	}
	return both, newest, nil
}

// rewriteMetas writes both meta pages as they are, or should be, and syncs
// them.
func (f *File) rewriteMetas() (newest uint64, err error) {
	both, newest, err := f.readMetas()
	if err != nil {
		return 0, err
	}
	if _, err := f.raw.WriteAt(both, 0); err != nil {
		return 0, err
	}
	if err := syncData(f.raw); err != nil {
		return 0, err
	}
	return newest, nil
}
