// Package bolt keeps keys, users and sessions in one file of this machine.
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
	// ReadOnly opens a file that exists, for reading alone.
	ReadOnly bool
	// OpenFile opens the file; nil: [os.OpenFile].
	OpenFile func(path string, flag int, perm os.FileMode) (*os.File, error)
}

const (
	fileKind    = "tokenkit-authz keys"
	fileVersion = 1
)

// The buckets. Numbers in them are big-endian, so that their order is that of
// the bytes.
const (
	keysBucket     = "keys"             // key id: record
	hashesBucket   = "key hashes"       // key hash: key id
	ownersBucket   = "keys by owner"    // user id and key id: nothing
	lastUsedBucket = "keys last used"   // key id: Unix time in seconds
	usersBucket    = "users"            // user id: record
	loginsBucket   = "logins"           // user name or address: user id
	sessionsBucket = "sessions"         // session id: record
	signedInBucket = "sessions by user" // user id and session id: nothing
	endsBucket     = "sessions by end"  // end and session id: nothing
)

func (o Options) file() boltfile.Options {
	return boltfile.Options{
		Kind:    fileKind,
		Version: fileVersion,
		Buckets: []string{
			keysBucket, hashesBucket, ownersBucket, lastUsedBucket, usersBucket, loginsBucket,
			sessionsBucket, signedInBucket, endsBucket,
		},
		Ascending:     []string{keysBucket, lastUsedBucket},
		LockTimeout:   o.LockTimeout,
		CommitTimeout: o.CommitTimeout,
		ReadOnly:      o.ReadOnly,
		OpenFile:      o.OpenFile,
	}
}

// Store is a [store.Store] in one file.
type Store struct {
	file *boltfile.File
}

var _ store.Store = (*Store)(nil)

// Open opens the file at path, which it creates where there is none.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	file, err := boltfile.Open(ctx, path, o.file())
	if err != nil {
		return nil, failed("opening store", err)
	}
	return &Store{file}, nil
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
