// Package boltfile keeps records in one file that proves its contents.
//
// A [File] is a bbolt file in which every record has a checksum, every bucket
// a running count and digest, and which is verified as a whole, page by page,
// before anything in it is trusted:
//
//	file, err := boltfile.Open(ctx, path, boltfile.Options{
//		Kind: "tokenkit-authz keys", Version: 1, Buckets: []string{"keys"},
//	})
//	err = file.Update(ctx, func(tx *boltfile.Tx) error {
//		return tx.Put("keys", id, value)
//	})
//	err = file.View(ctx, func(tx *boltfile.Tx) error {
//		value, err := tx.Get("keys", id)
//		…
//	})
//
// [File.Update] returns nil only once its change is synced. A loss of power at
// any moment leaves a file that opens with every change that was acknowledged;
// a bit that flips, or a page that is lost, old or of another place, is an
// [ErrDamaged] at the next [Open].
//
// The two are told apart as follows. A transaction writes pages that nothing
// refers to yet, syncs them, overwrites the older of the two meta pages, and
// syncs that. The part of a meta page that is in use lies in one sector of 512
// bytes, which a disk writes as a whole or not at all. So whatever was cut
// off, both meta pages are valid, their transactions follow each other, and
// the newer one leads to pages that were synced before it. Any file of which
// this is not true is refused, even where the older meta page would lead to a
// whole tree: that tree lacks the last change that was acknowledged.
//
// One thing cannot be noticed in a file alone: the newest meta page as it was
// before the very last transaction, with all else unchanged, for it is what a
// loss of power in that transaction leaves.
package boltfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what a file is and how it is opened. Kind, Version and Buckets
// are needed, all else has a useful zero value.
type Options struct {
	// Kind is the identity of the file, such as "tokenkit-authz keys". A file
	// of another kind is refused with [ErrForeign].
	Kind string
	// Version is the version of what the records mean. A newer file is
	// refused with [ErrNewer].
	Version uint32
	// Migrate brings an older file up to Version, in one transaction; Buckets
	// that it lacked exist by then. Where it is nil an older file is refused
	// with [ErrOlder].
	Migrate func(tx *Tx, from uint32) error
	// Buckets are the names of the buckets.
	Buckets []string
	// Ascending are those of Buckets whose new keys are greater than all before,
	// as ids are: their pages are filled, not left half empty for what never
	// comes between.
	Ascending []string
	// LockTimeout is how long to wait for another process that has the file
	// open, before [ErrLocked]; 1 s where it is 0.
	LockTimeout time.Duration
	// CommitTimeout is how long [File.Update] waits for its change to be
	// synced, before [ErrUnavailable]; 5 s where it is 0.
	CommitTimeout time.Duration
	// Committed is told how long each commit took, most of which is waiting
	// for the disk. Nil: nobody is told.
	Committed func(took time.Duration)
	// ReadOnly opens an existing file without changing it. Several processes
	// may do so at the same time.
	ReadOnly bool
	// OpenFile opens the file; nil is [os.OpenFile].
	OpenFile func(path string, flag int, perm os.FileMode) (*os.File, error)
}

func (o Options) withDefaults() (Options, error) {
	if o.Kind == "" || len(o.Kind) > 255 {
		return o, fmt.Errorf("boltfile: Kind of %d bytes, expected 1 to 255", len(o.Kind))
	}
	for _, name := range o.Buckets {
		if name == "" || name == stateBucket || len(name) > 255 {
			return o, fmt.Errorf("boltfile: Buckets: %q, expected 1 to 255 bytes and not %q", name, stateBucket)
		}
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	if o.CommitTimeout == 0 {
		o.CommitTimeout = 5 * time.Second
	}
	if o.Committed == nil {
		o.Committed = func(time.Duration) {}
	}
	if o.OpenFile == nil {
		o.OpenFile = os.OpenFile
	}
	return o, nil
}

// File is an open file. Its methods may be called concurrently.
type File struct {
	path    string
	options Options
	seeds   map[string]uint32 // of the checksums, by bucket; never changes
	raw     *os.File          // a descriptor of the file, for repairing its meta pages

	queue    chan *update
	stopping chan struct{} // closed by Close
	stopped  chan struct{} // closed by the writer when it has ended
	closing  sync.Once
	closeErr error

	epoch atomic.Pointer[epoch]

	// Only the writer uses these.
	transaction uint64 // the last one that was acknowledged
	suspect     bool   // a commit failed, and may have left its meta page
	broken      error  // writing ended for good
	past        *epoch // whose reads must end before the next change
}

// Open opens the file at path, or creates it, and verifies all of it: about a
// second for a million records. Its errors wrap one of this package's errors,
// and name the file and what to do.
func Open(ctx context.Context, path string, o Options) (*File, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	f, err := open(ctx, path, o)
	if errors.Is(err, os.ErrNotExist) && !o.ReadOnly {
		if err := create(ctx, path, o); err != nil {
			return nil, fmt.Errorf("creating %s: %w", path, err)
		}
		f, err = open(ctx, path, o)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %w", err)
	}
	return f, nil
}

// View runs fn in a read-only transaction: it sees one state of the file,
// while changes go on. View returns fn's error as it is.
func (f *File) View(ctx context.Context, fn func(tx *Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.view(func(tx *Tx) error { return fn(tx) })
}

func (f *File) view(fn func(tx *Tx) error) (err error) {
	e := f.enter()
	defer e.readers.RUnlock()
	btx, err := e.db.Begin(false)
	if err != nil {
		select {
		case <-f.stopping:
			return ErrClosed
		default:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	defer func() { err = errors.Join(err, btx.Rollback()) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	tx := &Tx{tx: btx, seeds: f.seeds}
	var panicked any
	if panicked, err = tx.call(fn); panicked != nil {
		panic(panicked)
	}
	return err
}

// Path returns the path that the file was opened with.
func (f *File) Path() string { return f.path }

// Close waits for the changes and reads under way and releases the file.
// Afterwards every method returns [ErrClosed]; closing again does nothing.
func (f *File) Close() error {
	f.closing.Do(func() {
		close(f.stopping)
		<-f.stopped
		if f.past != nil {
			f.closeErr = f.past.db.Close()
		}
		f.closeErr = errors.Join(f.closeErr, f.epoch.Load().db.Close(), f.raw.Close())
	})
	return f.closeErr
}
