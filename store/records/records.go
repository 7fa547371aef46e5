// Package records keeps what a [store.Store] keeps as records in buckets, over
// whatever can keep records: a file of this machine, or servers that replicas
// share.
//
//	type file struct{ … }
//
//	func (f *file) View(ctx context.Context, fn func(records.Tx) error) error { … }
//	func (f *file) Update(ctx context.Context, fn func(records.Tx) error) error { … }
//
//	keys := records.New(&file{}, records.Options{})
//	key, err := keys.FindKey(ctx, secret.Hash())
//
// All rules are here: what a change needs, makes and notes, and how a record is
// written. An [Engine] knows buckets, keys and values, and how to make a change
// whole, lasting and seen.
//
// Some buckets are primary, and the others are indexes of those: [Derive] tells
// what entries a primary record has. So an engine may keep the primary ones
// alone, and make the others anew.
package records

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tokenkithq/authz/store"
)

// ErrNewer says that a later version of the program wrote a record, and that
// this one must not read it.
var ErrNewer = errors.New("the record was written by a newer version")

// The buckets. Numbers in them are big-endian, so that their order is that of
// the bytes.
const (
	KeysBucket     = "keys"             // key id: record
	HashesBucket   = "key hashes"       // hash or previous hash of a key: key id
	OwnersBucket   = "keys by owner"    // user id and key id: nothing
	LastUsedBucket = "keys last used"   // key id: Unix time in seconds
	UsersBucket    = "users"            // user id: record
	LoginsBucket   = "logins"           // user name or address: user id
	SessionsBucket = "sessions"         // session id: record
	SignedInBucket = "sessions by user" // user id and session id: nothing
	EndsBucket     = "sessions by end"  // end and session id: nothing

	InvitationsBucket = "invitations" // invitation id: record
	EventsBucket      = "audit log"   // event id: record
)

// FirstBuckets returns the buckets that there have always been.
func FirstBuckets() []string {
	return []string{
		KeysBucket, HashesBucket, OwnersBucket, LastUsedBucket, UsersBucket, LoginsBucket,
		SessionsBucket, SignedInBucket, EndsBucket,
	}
}

// Buckets returns all buckets.
func Buckets() []string { return append(FirstBuckets(), InvitationsBucket, EventsBucket) }

// Tx is one transaction. It is used in one goroutine, and not after the
// function that it was given to has returned. Slices that it hands out must not
// be changed, and not be kept longer; it keeps none that it is given.
// Implementations must answer as follows.
type Tx interface {
	// Get returns the value of key, or nil where there is none; one that is
	// empty is not nil. It returns [store.ErrDamaged] for a record that fails
	// its checksum.
	Get(bucket string, key []byte) ([]byte, error)
	// Put sets the value of key.
	Put(bucket string, key, value []byte) error
	// Delete removes key; one that does not exist is no error.
	Delete(bucket string, key []byte) error
	// Scan calls fn for each record whose key starts with prefix, by ascending
	// key, until it returns an error, which Scan returns as it is. In an
	// [Engine.Update] fn may change the bucket; Scan goes on after the key that
	// it was called with.
	Scan(bucket string, prefix []byte, fn func(key, value []byte) error) error
	// NextSequence returns a number that this bucket has never handed out
	// before, from 1 up, whatever was deleted since.
	NextSequence(bucket string) (uint64, error)
	// Sequence returns the last number that NextSequence handed out; 0 is none.
	Sequence(bucket string) (uint64, error)
	// SetSequence makes NextSequence go on after at least last. It never goes
	// back.
	SetSequence(bucket string, last uint64) error
	// Count returns the number of records in bucket.
	Count(bucket string) (uint64, error)
}

// Engine runs transactions. Its errors are those of package store, or wrap
// them, and those of the functions that it is given, as they are.
type Engine interface {
	// View runs fn in a read-only transaction: it sees one state, while changes
	// go on.
	View(ctx context.Context, fn func(Tx) error) error
	// Update runs fn in a transaction and returns nil only once what fn changed
	// is what every later View sees, and survives a crash. Where fn returns an
	// error, nothing is changed. fn may run more than once, each time in a new
	// transaction, and what the last run did is what counts; it may run in
	// another goroutine, and even after Update has returned
	// [store.ErrUnavailable].
	Update(ctx context.Context, fn func(Tx) error) error
	// Close waits for changes under way and releases the engine.
	Close() error
}

// Options says what a [Store] keeps.
type Options struct {
	// AuditEvents is how many events the audit log keeps, the newest ones. A log
	// that is longer, since the number was made smaller, shrinks a little with
	// each event. Zero: all of them; the engine sees to it that they are not too
	// many.
	AuditEvents uint64
	// First says that there are no buckets but [FirstBuckets], and that nothing
	// is to be changed.
	First bool
	// ExpiredAtOnce is how many sessions that ended one change removes at most.
	// Zero: all of them.
	ExpiredAtOnce int
}

// Store is a [store.Store] over an [Engine].
type Store struct {
	engine Engine
	events uint64 // how many the audit log keeps; 0: all
	first  bool
	expire int
}

var _ store.Store = (*Store)(nil)

// New returns a store of what engine keeps, which belongs to it from now on.
func New(engine Engine, o Options) *Store {
	return &Store{engine: engine, events: o.AuditEvents, first: o.First, expire: o.ExpiredAtOnce}
}

// Close implements [store.Store].
func (s *Store) Close() error { return failed("closing store", s.engine.Close()) }

// failed says what was being done when err happened.
func failed(doing string, err error) error {
	if err == nil {
		return nil
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
func nextID[ID ~int64](tx Tx, bucket string) (ID, error) {
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
