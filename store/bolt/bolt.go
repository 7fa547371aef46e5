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
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
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
	// OpenFile opens the file; nil: [os.OpenFile].
	OpenFile func(path string, flag int, perm os.FileMode) (*os.File, error)
}

// DefaultAuditEvents is how many events the audit log keeps by default.
const DefaultAuditEvents = 100_000

// Version 1 had no audit log and no invitations.
const (
	fileKind    = "tokenkit-authz keys"
	fileVersion = 2
)

// The buckets. Numbers in them are big-endian, so that their order is that of
// the bytes.
const (
	keysBucket     = "keys"             // key id: record
	hashesBucket   = "key hashes"       // hash or previous hash of a key: key id
	ownersBucket   = "keys by owner"    // user id and key id: nothing
	lastUsedBucket = "keys last used"   // key id: Unix time in seconds
	usersBucket    = "users"            // user id: record
	loginsBucket   = "logins"           // user name or address: user id
	sessionsBucket = "sessions"         // session id: record
	signedInBucket = "sessions by user" // user id and session id: nothing
	endsBucket     = "sessions by end"  // end and session id: nothing

	invitationsBucket = "invitations" // invitation id: record
	eventsBucket      = "audit log"   // event id: record
)

var (
	firstBuckets = []string{
		keysBucket, hashesBucket, ownersBucket, lastUsedBucket, usersBucket, loginsBucket,
		sessionsBucket, signedInBucket, endsBucket,
	}
	addedBuckets = []string{invitationsBucket, eventsBucket}
)

func (o Options) file() boltfile.Options {
	return boltfile.Options{
		Kind:    fileKind,
		Version: fileVersion,
		Buckets: slices.Concat(firstBuckets, addedBuckets),
		// The buckets that version 1 lacked are made empty.
		Migrate:       func(*boltfile.Tx, uint32) error { return nil },
		Ascending:     []string{keysBucket, lastUsedBucket, eventsBucket},
		LockTimeout:   o.LockTimeout,
		CommitTimeout: o.CommitTimeout,
		ReadOnly:      o.ReadOnly,
		OpenFile:      o.OpenFile,
	}
}

// Store is a [store.Store] in one file.
type Store struct {
	file   *boltfile.File
	events uint64 // how many the audit log keeps
	first  bool   // the file has version 1, and is only read
}

var _ store.Store = (*Store)(nil)

// Open opens the file at path, which it creates where there is none, and
// brings one of an earlier version up to this one. A file that is only read
// keeps its version.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	s := &Store{events: uint64(o.AuditEvents)}
	if o.AuditEvents <= 0 {
		s.events = DefaultAuditEvents
	}
	options := o.file()
	file, err := boltfile.Open(ctx, path, options)
	if o.ReadOnly && errors.Is(err, boltfile.ErrOlder) {
		s.first = true
		options.Version, options.Buckets = 1, firstBuckets
		file, err = boltfile.Open(ctx, path, options)
	}
	if err != nil {
		return nil, failed("opening store", err)
	}
	s.file = file
	return s, nil
}

// Close implements [store.Store].
func (s *Store) Close() error { return failed("closing store", s.file.Close()) }

// outcome is an error of the file that also is one of package store.
type outcome struct {
	error
	is error
}

func (o outcome) Unwrap() []error { return []error{o.error, o.is} }

// failed says what was being done when err happened, in the terms of package
// store.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	for _, is := range []struct{ from, to error }{
		{boltfile.ErrFull, store.ErrFull},
		{boltfile.ErrUnavailable, store.ErrUnavailable},
		{boltfile.ErrDamaged, store.ErrDamaged},
		{boltfile.ErrClosed, store.ErrClosed},
	} {
		if errors.Is(err, is.from) {
			err = outcome{err, is.to}
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// damaged says that the records contradict each other or cannot be read.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", store.ErrDamaged, fmt.Errorf(format, args...))
}

// unreadable says which record could not be decoded.
func unreadable(what string, id int64, err error) error {
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("%s %d: %w", what, id, err)
	}
	return damaged("%s %d: %w", what, id, err)
}

func idKey[ID ~int64](id ID) []byte { return appendID(make([]byte, 0, 8), id) }

func appendID[ID ~int64](key []byte, id ID) []byte {
	return binary.BigEndian.AppendUint64(key, uint64(id))
}

// idAt reads an id that stands at the end of an index's key or is its value.
func idAt[ID ~int64](b []byte) (ID, error) {
	if len(b) < 8 {
		return 0, damaged("an index entry of %d bytes", len(b))
	}
	id := ID(binary.BigEndian.Uint64(b[len(b)-8:]))
	if id <= 0 {
		return 0, damaged("an index entry with an impossible id")
	}
	return id, nil
}

// nextID returns an id that no record of bucket ever had.
func nextID[ID ~int64](tx *boltfile.Tx, bucket string) (ID, error) {
	n, err := tx.NextSequence(bucket)
	if err != nil {
		return 0, err
	}
	id := ID(n)
	if id <= 0 {
		return 0, fmt.Errorf("%w: all ids of %s are used", store.ErrFull, bucket)
	}
	return id, nil
}
