// Package statefile keeps what keys have spent and which addresses are blocked
// in one file, apart from the keys themselves, so that neither ever waits for
// the other's changes.
//
//	file, err := statefile.Open(ctx, path, statefile.Options{})
//	limiter, err := limit.New(ctx, limit.Options{Journal: file.Limits()})
//	table, err := block.New(ctx, block.Options{Journal: file.Blocks()})
//	...
//	err = limiter.Close(ctx)
//	err = table.Close(ctx)
//	err = file.Close()
//
// The file is one of package boltfile: it proves its contents when it is
// opened, and a batch is whole or absent. Losing it means that every key
// starts with all of its calls and that no address is blocked; restoring an
// old one, that what was spent since is forgotten.
package statefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/internal/boltfile"
)

// Kind is the identity of a state file.
const Kind = "tokenkit-authz state"

const (
	schemaVersion = 1

	limitsBucket = "limits" // by key id in 8 bytes: see appendRing
	blocksBucket = "blocks" // by address: see appendAddress
	metaBucket   = "meta"   // limitsBucket and blocksBucket: the state of each

	recordVersion = 1
	// maxTime, in milliseconds, is far beyond any clock and far from an
	// overflow.
	maxTime = 1 << 52
)

// Options say how a file is opened. The zero Options are fine.
type Options struct {
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

// FileOptions are the options with which package boltfile opens, verifies,
// restores and compacts a state file.
func (o Options) FileOptions() boltfile.Options {
	return boltfile.Options{
		Kind:        Kind,
		Version:     schemaVersion,
		Buckets:     []string{limitsBucket, blocksBucket, metaBucket},
		LockTimeout: o.LockTimeout,
		// A save waits as long as its context does: one that gave up and began
		// again would only pile up behind a disk that does not answer.
		CommitTimeout: math.MaxInt64,
		ReadOnly:      o.ReadOnly,
		Committed:     o.Committed,
		OpenFile:      o.OpenFile,
	}
}

// File is an open state file.
type File struct {
	file *boltfile.File
}

// Open opens the file at path or creates it. Its errors are those of
// [boltfile.Open].
func Open(ctx context.Context, path string, o Options) (*File, error) {
	file, err := boltfile.Open(ctx, path, o.FileOptions())
	if err != nil {
		return nil, fmt.Errorf("limits and blocks: %w", err)
	}
	return &File{file}, nil
}

// Limits returns the journal of a limiter.
func (f *File) Limits() limit.Journal { return &limits{file: f.file} }

// Blocks returns the journal of a block table.
func (f *File) Blocks() block.Journal { return &blocks{file: f.file} }

// Backup writes a consistent copy of the file, while it is in use, and returns
// its length in bytes.
func (f *File) Backup(ctx context.Context, w io.Writer) (int64, error) {
	n, err := f.file.Backup(ctx, w)
	if err != nil {
		return n, fmt.Errorf("backing up limits and blocks: %w", err)
	}
	return n, nil
}

// Close waits for saves under way and releases the file.
func (f *File) Close() error { return f.file.Close() }

// Check reads every record of a file and returns the first error, among them
// those that only this package can see: a record that says nothing sensible.
func (f *File) Check(ctx context.Context) error {
	limits, blocks := f.Limits(), f.Blocks()
	_, limitsErr := limits.State(ctx)
	_, blocksErr := blocks.State(ctx)
	return errors.Join(limitsErr, blocksErr,
		limits.Records(ctx, func(*limit.Record) error { return nil }),
		blocks.Records(ctx, func(*block.Record) error { return nil }))
}

// change is a Put, or a Delete where value is nil, whose bytes stand in an
// arena.
type change struct {
	bucket     string
	key, value span
}

type span struct{ from, to int }

// batch is an encoded change of a file. A save that is given up may still be
// made, so that it must own what it writes.
type batch struct {
	arena   []byte
	changes []change
}

// keep adds a change; each function appends to the arena. A nil value deletes.
func (b *batch) keep(bucket string, key, value func([]byte) []byte) {
	from := len(b.arena)
	b.arena = key(b.arena)
	c := change{bucket: bucket, key: span{from, len(b.arena)}}
	if value != nil {
		from = len(b.arena)
		b.arena = value(b.arena)
		c.value = span{from, len(b.arena)}
	}
	b.changes = append(b.changes, c)
}

func (b *batch) apply(tx *boltfile.Tx) error {
	for _, c := range b.changes {
		key := b.arena[c.key.from:c.key.to]
		var err error
		if c.value == (span{}) {
			err = tx.Delete(c.bucket, key)
		} else {
			err = tx.Put(c.bucket, key, b.arena[c.value.from:c.value.to])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// save applies b and returns a batch to be used for the next one.
func save(ctx context.Context, file *boltfile.File, b *batch) (*batch, error) {
	if err := file.Update(ctx, b.apply); err != nil {
		return &batch{}, err
	}
	b.arena, b.changes = b.arena[:0], b.changes[:0]
	return b, nil
}

// readState passes the state stored under a name to decode, if there is one.
func readState(ctx context.Context, file *boltfile.File, name string, decode func([]byte) error) error {
	return file.View(ctx, func(tx *boltfile.Tx) error {
		value, err := tx.Get(metaBucket, []byte(name))
		if err != nil || value == nil {
			return err
		}
		if err := decode(value); err != nil {
			return fmt.Errorf("%w: state of %s: %w", boltfile.ErrDamaged, name, err)
		}
		return nil
	})
}
