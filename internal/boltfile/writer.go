package boltfile

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
)

const (
	queueLength = 1024 // changes that may wait; more wait outside, with their callers' deadlines
	batchLength = 256  // changes that one commit takes

	// commitSpacing is how far apart commits begin while several callers make
	// changes at once. Each costs two syncs of the disk, and the same pages
	// again: at 200 changes a second that is half of what they cost.
	commitSpacing = 20 * time.Millisecond
)

// update is one call of [File.Update] on its way through the writer.
type update struct {
	fn   func(*Tx) error
	done chan struct{}
	// taken is set by whoever comes first: the writer that runs fn, or the
	// caller that no longer waits.
	taken    atomic.Bool
	err      error
	panicked any
}

// Update runs fn in a transaction and returns nil only once what fn changed
// is synced to the disk. Where fn returns an error, nothing is changed and
// Update returns that error as it is. Updates that wait at the same time share
// one commit. fn runs at most once, in another goroutine, after all changes
// that were acknowledged before; it must not call File's methods.
//
// When ctx is done, or [Options.CommitTimeout] has passed, Update returns
// [ErrUnavailable] and the error of ctx; the change may still be made. After
// [ErrFull], too, nothing was changed.
func (f *File) Update(ctx context.Context, fn func(tx *Tx) error) error {
	if f.options.ReadOnly {
		return fmt.Errorf("%w: it was opened read-only", ErrUnavailable)
	}
	timeout := time.NewTimer(f.options.CommitTimeout)
	defer timeout.Stop()
	u := &update{fn: fn, done: make(chan struct{})}
	// Close may run at the same time; it closes stopping, never the queue.
	select {
	case <-f.stopping:
		return ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	select {
	case f.queue <- u:
	case <-f.stopping:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for other changes: %w", ErrUnavailable, ctx.Err())
	case <-timeout.C:
		return fmt.Errorf("%w: waiting for other changes: not within %v", ErrUnavailable, f.options.CommitTimeout)
	}
	var cause error
	select {
	case <-u.done:
		return u.result()
	case <-f.stopped:
		// The writer ended before or after it took this one.
		select {
		case <-u.done:
			return u.result()
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		cause = ctx.Err()
	case <-timeout.C:
		cause = fmt.Errorf("no confirmation within %v", f.options.CommitTimeout)
	}
	if u.taken.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: the change was not begun: %w", ErrUnavailable, cause)
	}
	select {
	case <-u.done:
		return u.result()
	default:
		return fmt.Errorf("%w: the change was begun and may still be made: %w", ErrUnavailable, cause)
	}
}

func (u *update) result() error {
	if u.panicked != nil {
		panic(u.panicked)
	}
	return u.err
}

// write commits queued changes until the file is closed.
func (f *File) write() {
	defer close(f.stopped)
	debug.SetPanicOnFault(true)
	var began time.Time // of the last commit
	shared := false     // it took several changes
	for {
		select {
		case u := <-f.queue:
			// Who makes one change after the other never waits here: while one
			// is committed, no other is queued.
			if shared {
				f.rest(commitSpacing - time.Since(began))
			}
			began = time.Now()
			batch := f.gather(u)
			shared = len(batch) > 1
			f.commit(batch)
		case <-f.stopping:
			for {
				select {
				case u := <-f.queue:
					f.commit(f.gather(u))
				default:
					return
				}
			}
		}
	}
}

// rest waits, but not once the file is being closed.
func (f *File) rest(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.stopping:
	}
}

// gather takes the changes that wait already, and none that still may come:
// waiting would add delay where nothing is to be shared.
func (f *File) gather(first *update) []*update {
	batch := []*update{first}
	// Callers that the last commit released need a turn to queue again.
	runtime.Gosched()
	for len(batch) < batchLength {
		select {
		case u := <-f.queue:
			batch = append(batch, u)
		default:
			return batch
		}
	}
	return batch
}

// commit runs a batch in one transaction and tells each caller its result. A
// change that failed is told so only after the commit as well: what it saw was
// perhaps made by another change of the batch.
func (f *File) commit(batch []*update) {
	batch = slices.DeleteFunc(batch, func(u *update) bool { return !u.taken.CompareAndSwap(false, true) })
	if len(batch) == 0 {
		return
	}
	err := f.recoverWrites()
	if err == nil {
		err = f.commitBatch(batch)
	}
	for _, u := range batch {
		if err != nil {
			u.err, u.panicked = err, nil
		}
		close(u.done)
	}
}

func (f *File) commitBatch(batch []*update) (err error) {
	committing := false
	defer func() {
		if reason := recover(); reason != nil {
			// The library's locks are in an unknown state.
			err = damagedf("writing: %v", reason)
			f.broken = err
		} else if err != nil && committing {
			f.suspect = true
			err = writeError(err)
		}
	}()
	btx, err := f.epoch.Load().db.Begin(true)
	if err != nil {
		f.suspect = true
		return writeError(err)
	}
	tx := &Tx{tx: btx, seeds: f.seeds, ascending: f.options.Ascending}
	if err := tx.readState(); err != nil {
		return errors.Join(err, btx.Rollback())
	}
	for _, u := range batch {
		if err := tx.run(u); err != nil {
			return errors.Join(err, btx.Rollback())
		}
	}
	if tx.writes == 0 {
		return btx.Rollback()
	}
	if err := tx.writeState(); err != nil {
		return errors.Join(err, btx.Rollback())
	}
	committing = true
	transaction := tx.state.transaction
	begun := time.Now()
	err = btx.Commit()
	f.options.Committed(time.Since(begun))
	if err != nil {
		if newest, readErr := f.newestMeta(); readErr != nil || newest != f.transaction {
			// Its meta page may be on the disk, so this is never ErrFull.
			err = fmt.Errorf("%w: the change may still be made: %w", ErrUnavailable, err)
		}
		return err
	}
	f.transaction = transaction
	return nil
}

// run calls the function of u and takes back what it did where it fails. It
// returns an error only where taking back failed.
func (t *Tx) run(u *update) (err error) {
	before := slices.Clone(t.state.buckets)
	writes := t.writes
	t.undo = t.undo[:0]
	u.panicked, u.err = t.call(u.fn)
	if u.err == nil && u.panicked == nil {
		return nil
	}
	defer t.guard(&err)
	for _, c := range slices.Backward(t.undo) {
		b := t.tx.Bucket([]byte(c.bucket))
		if c.stored == nil {
			err = b.Delete(c.key)
		} else {
			err = b.Put(c.key, c.stored)
		}
		if err != nil {
			return fmt.Errorf("taking back a change: %w", err)
		}
	}
	t.state.buckets, t.writes = before, writes
	return nil
}

func (t *Tx) call(fn func(*Tx) error) (panicked any, err error) {
	defer func() {
		panicked = recover()
		if fault, isFault := panicked.(interface{ Addr() uintptr }); isFault {
			panicked, err = nil, damagedf("reading a page: %v", fault)
		}
	}()
	return nil, fn(t)
}
