package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"
)

// The longest key and value that a file takes, in bytes.
const (
	MaxKey   = 4096
	MaxValue = 16 << 20
)

// Tx is one transaction. It is valid until the function that it was given to
// returns, and only in that function's goroutine.
type Tx struct {
	tx     *bbolt.Tx
	seeds  map[string]uint32 // by bucket
	state  *state            // nil in a View until it is needed
	undo   []change          // how to take back what the present function did
	writes uint64            // Puts and Deletes so far

	ascending []string // see Options
}

// change is a record as it was before a Put or Delete; nil is absent.
type change struct {
	bucket      string
	key, stored []byte
}

// Get returns the value of key, or nil where there is none. The value is part
// of the mapped file: it is valid until the transaction ends and must not be
// changed. It returns [ErrDamaged] for a record that fails its checksum.
func (t *Tx) Get(bucket string, key []byte) (value []byte, err error) {
	b, seed, err := t.bucket(bucket)
	if err != nil {
		return nil, err
	}
	defer t.guard(&err)
	stored := b.Get(key)
	if stored == nil {
		return nil, nil
	}
	value, err = unseal(seed, key, stored)
	if err != nil {
		return nil, fmt.Errorf("bucket %q: %w", bucket, err)
	}
	return value, nil
}

// Put sets the value of key. It keeps neither slice.
func (t *Tx) Put(bucket string, key, value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("bucket %q: value of %d bytes, expected at most %d", bucket, len(value), MaxValue)
	}
	return t.set(bucket, key, func(seed uint32) []byte { return seal(seed, key, value) })
}

// Delete removes key; one that does not exist is no error.
func (t *Tx) Delete(bucket string, key []byte) error {
	return t.set(bucket, key, func(uint32) []byte { return nil })
}

func (t *Tx) set(bucket string, key []byte, sealed func(seed uint32) []byte) (err error) {
	if !t.tx.Writable() {
		return errors.New("changing a record in View, expected Update")
	}
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("bucket %q: key of %d bytes, expected 1 to %d", bucket, len(key), MaxKey)
	}
	b, seed, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	defer t.guard(&err)
	if slices.Contains(t.ascending, bucket) {
		b.FillPercent = ascendingFill
	}
	old := b.Get(key)
	if old != nil {
		if _, err := unseal(seed, key, old); err != nil {
			return fmt.Errorf("bucket %q: %w", bucket, err)
		}
	}
	stored := sealed(seed)
	if old == nil && stored == nil {
		return nil
	}
	t.undo = append(t.undo, change{bucket, bytes.Clone(key), old})
	return t.replace(b, t.state.bucket(bucket), key, old, stored)
}

// ascendingFill leaves a little room for records that grow.
const ascendingFill = 0.9

// replace changes a record and what its bucket adds up to.
func (t *Tx) replace(b *bbolt.Bucket, s *bucketState, key, old, stored []byte) error {
	t.writes++
	if old != nil {
		s.count--
		s.digest -= term(old)
	}
	if stored == nil {
		return b.Delete(key)
	}
	s.count++
	s.digest += term(stored)
	return b.Put(key, stored)
}

// Scan calls fn for each record whose key starts with prefix, by ascending
// key, until it returns an error, which Scan returns as it is. Slices are
// valid until the transaction ends and must not be changed. In an Update fn
// may change the bucket; Scan goes on after the key that it was called with.
func (t *Tx) Scan(bucket string, prefix []byte, fn func(key, value []byte) error) error {
	b, seed, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	cursor := b.Cursor()
	key, stored, err := t.move(func() ([]byte, []byte) { return cursor.Seek(prefix) })
	for err == nil && key != nil && bytes.HasPrefix(key, prefix) {
		value, err := unseal(seed, key, stored)
		if err != nil {
			return fmt.Errorf("bucket %q: %w", bucket, err)
		}
		last, writes := key, t.writes
		if t.tx.Writable() {
			last = bytes.Clone(key)
		}
		if err := fn(key, value); err != nil {
			return err
		}
		key, stored, err = t.move(func() ([]byte, []byte) {
			if writes == t.writes {
				return cursor.Next()
			}
			// A change may have moved what the cursor points at.
			cursor = b.Cursor()
			key, stored := cursor.Seek(last)
			if bytes.Equal(key, last) {
				return cursor.Next()
			}
			return key, stored
		})
		if err != nil {
			return err
		}
	}
	return err
}

func (t *Tx) move(step func() (key, stored []byte)) (key, stored []byte, err error) {
	defer t.guard(&err)
	key, stored = step()
	return key, stored, nil
}

// NextSequence returns a number that this bucket has never handed out before,
// from 1 up, whatever was deleted since.
func (t *Tx) NextSequence(bucket string) (uint64, error) {
	if !t.tx.Writable() {
		return 0, errors.New("taking a sequence number in View, expected Update")
	}
	s, err := t.bucketState(bucket)
	if err != nil {
		return 0, err
	}
	t.writes++
	s.sequence++
	return s.sequence, nil
}

// Sequence returns the last number that NextSequence handed out; 0 is none.
func (t *Tx) Sequence(bucket string) (uint64, error) {
	s, err := t.bucketState(bucket)
	if err != nil {
		return 0, err
	}
	return s.sequence, nil
}

// SetSequence makes NextSequence go on after at least last. It never goes
// back.
func (t *Tx) SetSequence(bucket string, last uint64) error {
	if !t.tx.Writable() {
		return errors.New("setting a sequence in View, expected Update")
	}
	s, err := t.bucketState(bucket)
	if err != nil {
		return err
	}
	if last > s.sequence {
		t.writes++
		s.sequence = last
	}
	return nil
}

// Count returns the number of records in bucket, without reading them.
func (t *Tx) Count(bucket string) (uint64, error) {
	s, err := t.bucketState(bucket)
	if err != nil {
		return 0, err
	}
	return s.count, nil
}

func (t *Tx) bucket(name string) (b *bbolt.Bucket, seed uint32, err error) {
	defer t.guard(&err)
	seed, known := t.seeds[name]
	if known {
		b = t.tx.Bucket([]byte(name))
	}
	if b == nil {
		return nil, 0, fmt.Errorf("bucket %q: not one of this file's buckets", name)
	}
	return b, seed, nil
}

func (t *Tx) bucketState(name string) (*bucketState, error) {
	if err := t.readState(); err != nil {
		return nil, err
	}
	if s := t.state.bucket(name); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("bucket %q: not one of this file's buckets", name)
}

// guard turns a panic of the library below, or a fault in the mapped file,
// into [ErrDamaged].
func (t *Tx) guard(err *error) {
	if reason := recover(); reason != nil {
		*err = damagedf("reading a page: %v", reason)
	}
}

// readState reads the state that the transaction starts from.
func (t *Tx) readState() (err error) {
	if t.state != nil {
		return nil
	}
	defer t.guard(&err)
	b := t.tx.Bucket([]byte(stateBucket))
	if b == nil {
		return damagedf("its state record is missing")
	}
	value, err := unseal(bucketSeed(stateBucket), []byte(stateKey), b.Get([]byte(stateKey)))
	if err != nil {
		return err
	}
	t.state, err = decodeState(value)
	return err
}

// writeState puts the state under the number of this transaction.
func (t *Tx) writeState() (err error) {
	defer t.guard(&err)
	t.state.transaction = uint64(t.tx.ID())
	b, err := t.tx.CreateBucketIfNotExists([]byte(stateBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(stateKey), seal(bucketSeed(stateBucket), []byte(stateKey), t.state.encode()))
}

// createBuckets adds the buckets that are not there yet.
func (t *Tx) createBuckets(names []string) (err error) {
	defer t.guard(&err)
	for _, name := range names {
		if t.state.bucket(name) != nil {
			continue
		}
		if _, err := t.tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return fmt.Errorf("creating bucket %q: %w", name, err)
		}
		t.state.buckets = append(t.state.buckets, bucketState{name: name})
		t.seeds[name] = bucketSeed(name)
	}
	return nil
}
