package records

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// Entry is a record of a bucket.
type Entry struct {
	Bucket     string
	Key, Value []byte
}

// PrimaryBuckets returns the buckets that are not made of others, in an order
// in which each comes after those that its records refer to.
func PrimaryBuckets() []string {
	return []string{UsersBucket, KeysBucket, LastUsedBucket, SessionsBucket, InvitationsBucket, EventsBucket}
}

// SequenceBuckets returns the buckets whose sequences are in use.
func SequenceBuckets() []string { return []string{UsersBucket, KeysBucket, EventsBucket} }

// Derive appends the index entries of a primary record to entries: what is in
// the buckets that are not of [PrimaryBuckets] is just what all primary records
// have. The entries may share the memory of key and record.
func Derive(entries []Entry, bucket string, key, record []byte) ([]Entry, error) {
	var err error
	switch bucket {
	case KeysBucket:
		entries, err = deriveKey(entries, key, record)
	case UsersBucket:
		entries, err = deriveUser(entries, key, record)
	case SessionsBucket:
		entries, err = deriveSession(entries, key, record)
	}
	if err != nil {
		return nil, damaged("a record of %q: %w", bucket, err)
	}
	return entries, nil
}

// eachFieldOf calls fn for the fields of a record, whose values it does not
// copy.
func eachFieldOf(record []byte, fn func(field) error) error {
	rest, err := fieldsOf(record)
	for after := uint64(0); err == nil && len(rest) > 0; {
		var f field
		if f, rest, err = nextField(rest, after); err == nil {
			after = f.tag
			err = fn(f)
		}
	}
	return err
}

func deriveKey(entries []Entry, id, record []byte) ([]Entry, error) {
	var owner uint64
	hashed := false
	err := eachFieldOf(record, func(f field) (err error) {
		switch f.tag {
		case keyHash, keyPreviousHash:
			if len(f.value) != 32 {
				return errRecord
			}
			hashed = hashed || f.tag == keyHash
			entries = append(entries, Entry{HashesBucket, f.value, id})
		case keyOwner:
			owner, err = positive(f.value)
		}
		return err
	})
	if err == nil && (!hashed || owner == 0 || len(id) != 8) {
		err = fmt.Errorf("%w: a key without hash, owner or id", errRecord)
	}
	if err != nil {
		return nil, err
	}
	return append(entries, Entry{Bucket: OwnersBucket, Key: slices.Concat(idKey(int64(owner)), id)}), nil
}

func deriveUser(entries []Entry, id, record []byte) ([]Entry, error) {
	var name []byte
	err := eachFieldOf(record, func(f field) error {
		switch {
		case f.tag == userName:
			name = f.value
			entries = append(entries, Entry{LoginsBucket, f.value, id})
		case f.tag == userEmail && !bytes.Equal(f.value, name):
			entries = append(entries, Entry{LoginsBucket, f.value, id})
		}
		return nil
	})
	if err == nil && (len(name) == 0 || len(id) != 8) {
		err = fmt.Errorf("%w: a user without name or id", errRecord)
	}
	return entries, err
}

func deriveSession(entries []Entry, id, record []byte) ([]Entry, error) {
	var user uint64
	var end time.Time
	err := eachFieldOf(record, func(f field) (err error) {
		switch f.tag {
		case sessionUser:
			user, err = positive(f.value)
		case sessionExpiresAt:
			end, err = moment(f.value)
		}
		return err
	})
	if err == nil && (user == 0 || len(id) != 32) {
		err = fmt.Errorf("%w: a session without user or id", errRecord)
	}
	if err != nil {
		return nil, err
	}
	return append(entries,
		Entry{Bucket: SignedInBucket, Key: slices.Concat(idKey(int64(user)), id)},
		Entry{Bucket: EndsBucket, Key: slices.Concat(endKey(end), id)}), nil
}
