// Package bolt keeps keys, users, invitations, sessions and the audit log in
// one file of this machine.
//
//	keys, err := bolt.Open(ctx, "data/keys.db", bolt.Options{})
//	defer keys.Close()
//	key, err := keys.FindKey(ctx, secret.Hash())
//
// A change is acknowledged once it is on the disk. One process at a time has
// the file open, and opening it proves its contents; a file that is damaged,
// or is something else, is refused with what to do.
//
// [Store.Backup] copies the file while it is in use. [Verify], [Restore] and
// [Compact] are for a file that is not. [Store.Export] and [Store.Import]
// write and read JSON lines, for moving to another store.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
)

// ErrNewer says that a later version of the program wrote the file, or a
// record in it, and that this one must not read it.
var ErrNewer = boltfile.ErrNewer

// Options says how a file is used. The zero value is right for a server.
type Options struct {
	// LockTimeout is how long to wait while another process has the file
	// open. Zero: 1 second.
	LockTimeout time.Duration
	// CommitTimeout is how long a change may wait for the disk before it is
	// answered with [store.ErrUnavailable]. Zero: 5 seconds.
	CommitTimeout time.Duration
	// AuditEvents is how many events the audit log keeps, the newest ones.
	// Zero: [DefaultAuditEvents], which take about 40 MiB. A log that is
	// longer, since the number was made smaller, shrinks a little with each
	// event.
	AuditEvents int
	// ReadOnly opens a file that exists, for reading alone.
	ReadOnly bool
	// Committed is told how long each commit took. Nil: nobody is told.
	Committed func(took time.Duration)
	// OpenFile opens the file; nil: [os.OpenFile].
	OpenFile func(path string, flag int, perm os.FileMode) (*os.File, error)
}

// ExportOptions says what [Store.Export] writes.
type ExportOptions = records.ExportOptions

// DefaultAuditEvents is how many events the audit log keeps by default.
const DefaultAuditEvents = 100_000

// Version 1 had no audit log and no invitations.
const (
	fileKind    = "tokenkit-authz keys"
	fileVersion = 2
)

func (o Options) file() boltfile.Options {
	return boltfile.Options{
		Kind:    fileKind,
		Version: fileVersion,
		Buckets: records.Buckets(),
		// The buckets that version 1 lacked are made empty.
		Migrate:       func(*boltfile.Tx, uint32) error { return nil },
		Ascending:     []string{records.KeysBucket, records.LastUsedBucket, records.EventsBucket},
		LockTimeout:   o.LockTimeout,
		CommitTimeout: o.CommitTimeout,
		ReadOnly:      o.ReadOnly,
		Committed:     o.Committed,
		OpenFile:      o.OpenFile,
	}
}

// Store is a [store.Store] in one file.
type Store struct {
	*records.Store
	file *boltfile.File
}

var _ store.Store = (*Store)(nil)

// Open opens the file at path, which it creates where there is none, and
// brings one of an earlier version up to this one. A file that is only read
// keeps its version.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	kept := records.Options{AuditEvents: uint64(o.AuditEvents)}
	if o.AuditEvents <= 0 {
		kept.AuditEvents = DefaultAuditEvents
	}
	options := o.file()
	file, err := boltfile.Open(ctx, path, options)
	if o.ReadOnly && errors.Is(err, boltfile.ErrOlder) {
		kept.First = true
		options.Version, options.Buckets = 1, records.FirstBuckets()
		file, err = boltfile.Open(ctx, path, options)
	}
	if err != nil {
		return nil, failed("opening store", err)
	}
	return &Store{Store: records.New(engine{file}, kept), file: file}, nil
}

// engine is a file in the terms of package records.
type engine struct{ file *boltfile.File }

func (e engine) View(ctx context.Context, fn func(records.Tx) error) error {
	return translated(e.file.View(ctx, func(tx *boltfile.Tx) error { return fn(tx) }))
}

func (e engine) Update(ctx context.Context, fn func(records.Tx) error) error {
	return translated(e.file.Update(ctx, func(tx *boltfile.Tx) error { return fn(tx) }))
}

func (e engine) Close() error { return translated(e.file.Close()) }

// outcome is an error of the file that also is one of package store.
type outcome struct {
	error
	is error
}

func (o outcome) Unwrap() []error { return []error{o.error, o.is} }

// translated returns an error of the file in the terms of package store.
func translated(err error) error {
	if err == nil {
		return nil
	}
	for _, is := range []struct{ from, to error }{
		{boltfile.ErrFull, store.ErrFull},
		{boltfile.ErrUnavailable, store.ErrUnavailable},
		{boltfile.ErrDamaged, store.ErrDamaged},
		{boltfile.ErrClosed, store.ErrClosed},
		{records.ErrNewer, ErrNewer},
	} {
		if errors.Is(err, is.from) {
			err = outcome{err, is.to}
		}
	}
	return err
}

// failed says what was being done when err happened.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, translated(err))
}
