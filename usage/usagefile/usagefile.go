// Package usagefile keeps what package usage counts in one file.
//
//	file, err := usagefile.Open(ctx, path, usagefile.Options{})
//	recorder, err := usage.New(ctx, usage.Options{Journal: file})
//	...
//	err = recorder.Close(ctx)
//	err = file.Close()
//
// The file is one of package boltfile: it proves its contents when it is
// opened, and a change is whole or absent. Losing it loses counts, and nothing
// else.
//
// # What is in it
//
// The log holds what was recorded since it was last trimmed, each entry in
// records of some 32 KB that hold many keys.
//
// A history is up to three records of its key: minutes, hours and days. What
// is folded is added to the minutes at once, and owed to the hours. What is
// owed moves on when a period of the next length is over, at a moment that
// differs from key to key, and likewise from the hours to the days. So a key
// that is in use has its minutes rewritten once a minute, its hours once an
// hour and its days once a day. A record holds only periods in which there
// were calls, and of these only the outcomes that there were.
package usagefile

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/usage"
)

// Kind is the identity of a usage file.
const Kind = "tokenkit-authz usage"

const schemaVersion = 1

const logBucket = "log" // by number in 8 bytes and part in 4: see appendDelta

// levels are the buckets of histories, by key id in 8 bytes: see
// [record.encode]. Each one owes to the next.
var levels = [...]level{
	{"minutes", usage.Minute},
	{"hours", usage.Hour},
	{"days", usage.Day},
}

type level struct {
	bucket     string
	resolution usage.Resolution
}

// Defaults of [Options].
const (
	DefaultKeepMinutes = 3 * time.Hour
	DefaultKeepHours   = 31 * 24 * time.Hour
	DefaultKeepDays    = 400 * 24 * time.Hour
)

// Options say how a file is opened. The zero Options are fine.
type Options struct {
	// KeepMinutes is how long counts by the minute are kept. Zero:
	// [DefaultKeepMinutes]. Counts that lie as far or farther in the future,
	// by a clock that was wrong, are removed as well.
	KeepMinutes time.Duration
	// KeepHours is the same for hours. Zero: [DefaultKeepHours].
	KeepHours time.Duration
	// KeepDays is the same for days. Zero: [DefaultKeepDays].
	KeepDays time.Duration
	// LockTimeout is how long to wait for another process that has the file
	// open. Zero: one second.
	LockTimeout time.Duration
	// ReadOnly opens an existing file for looking at.
	ReadOnly bool
	// Committed is told how long each commit took. Nil: nobody is told.
	Committed func(took time.Duration)
	// OpenFile opens the file. Nil: [os.OpenFile].
	OpenFile func(path string, flag int, perm os.FileMode) (*os.File, error)
}

// FileOptions are the options with which package boltfile opens, verifies and
// compacts a usage file.
func (o Options) FileOptions() boltfile.Options {
	return boltfile.Options{
		Kind:        Kind,
		Version:     schemaVersion,
		Buckets:     []string{logBucket, levels[0].bucket, levels[1].bucket, levels[2].bucket},
		Ascending:   []string{logBucket},
		LockTimeout: o.LockTimeout,
		// A write waits as long as its context does: one that gave up and began
		// again would only pile up behind a disk that does not answer.
		CommitTimeout: math.MaxInt64,
		ReadOnly:      o.ReadOnly,
		Committed:     o.Committed,
		OpenFile:      o.OpenFile,
	}
}

// File is an open usage file.
type File struct {
	file *boltfile.File
	keep [len(levels)]int64 // in minutes
}

var _ usage.Journal = (*File)(nil)

// Open opens the file at path or creates it. Its errors are those of
// [boltfile.Open].
func Open(ctx context.Context, path string, o Options) (*File, error) {
	f := &File{}
	for i, keep := range [...]struct{ asked, usual time.Duration }{
		{o.KeepMinutes, DefaultKeepMinutes}, {o.KeepHours, DefaultKeepHours}, {o.KeepDays, DefaultKeepDays},
	} {
		if keep.asked <= 0 {
			keep.asked = keep.usual
		}
		f.keep[i] = int64(keep.asked / time.Minute)
	}
	var err error
	if f.file, err = boltfile.Open(ctx, path, o.FileOptions()); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return f, nil
}

// Backup writes a consistent copy of the file, while it is in use, and returns
// its length in bytes.
func (f *File) Backup(ctx context.Context, w io.Writer) (int64, error) {
	n, err := f.file.Backup(ctx, w)
	if err != nil {
		return n, fmt.Errorf("backing up usage: %w", err)
	}
	return n, nil
}

// Path returns the path that the file was opened with.
func (f *File) Path() string { return f.file.Path() }

// Close waits for changes under way and releases the file.
func (f *File) Close() error { return f.file.Close() }

// Check reads every record of a file and returns the first error, among them
// those that only this package can see: a record that says nothing sensible.
func (f *File) Check(ctx context.Context) error {
	return f.file.View(ctx, func(tx *boltfile.Tx) error {
		if err := scanLog(tx, func(uint64, *usage.Delta) error { return ctx.Err() }); err != nil {
			return err
		}
		var r record
		for n, l := range levels {
			err := tx.Scan(l.bucket, nil, func(key, value []byte) error {
				if _, err := decodeKey(key); err != nil {
					return damaged(l.bucket, key, err)
				}
				if err := r.decode(n, value); err != nil {
					return damaged(l.bucket, key, err)
				}
				return ctx.Err()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func damaged(bucket string, key []byte, err error) error {
	return fmt.Errorf("%w: %s record %x: %w", boltfile.ErrDamaged, bucket, key, err)
}
