package etcd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"unsafe"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
)

// What stands below the prefix: a record is below a letter for its bucket and a
// slash, and under the key that it has there. Events of one change are one
// value, a pack, under the id of the first.
const (
	formatKey  = "format"    // what this is, in text
	headKey    = "changes"   // the head: it changes with every change
	replicaKey = "replicas/" // and the name of a replica: what it has seen
)

// bucket numbers the buckets, the primary ones first.
type bucket int

const (
	keys bucket = iota
	lastUsed
	users
	sessions
	invitations
	packs
	primaries // how many are kept in etcd
)

const (
	hashes bucket = iota + primaries
	owners
	logins
	signedIn
	ends
	events
	buckets // how many there are
)

// letters are those of the primary buckets.
const letters = "klusie"

func bucketOf(name string) (bucket, error) {
	switch name {
	case records.KeysBucket:
		return keys, nil
	case records.LastUsedBucket:
		return lastUsed, nil
	case records.UsersBucket:
		return users, nil
	case records.SessionsBucket:
		return sessions, nil
	case records.InvitationsBucket:
		return invitations, nil
	case records.HashesBucket:
		return hashes, nil
	case records.OwnersBucket:
		return owners, nil
	case records.LoginsBucket:
		return logins, nil
	case records.SignedInBucket:
		return signedIn, nil
	case records.EndsBucket:
		return ends, nil
	case records.EventsBucket:
		return events, nil
	}
	return 0, fmt.Errorf("bucket %q: not one of this store's", name)
}

// primaryName returns the name of a primary bucket but packs.
func primaryName(b bucket) string {
	return [...]string{records.KeysBucket, records.LastUsedBucket, records.UsersBucket, records.SessionsBucket, records.InvitationsBucket}[b]
}

// primaryOf returns the primary bucket that an index is made of, or b itself.
func primaryOf(b bucket) bucket {
	switch b {
	case hashes, owners:
		return keys
	case logins:
		return users
	case signedIn, ends:
		return sessions
	case events:
		return packs
	}
	return b
}

// below returns the name of a record below the prefix.
func below(b bucket, key string) string { return letters[b:b+1] + "/" + key }

// recordAt reads such a name.
func recordAt(name string) (b bucket, key string, isRecord bool) {
	if len(name) < 3 || name[1] != '/' {
		return 0, "", false
	}
	at := strings.IndexByte(letters, name[0])
	return bucket(at), name[2:], at >= 0
}

var errChecksum = errors.New("a value fails its checksum")

const sumSize = 4

// sum is over a value and its name below the prefix, so that a value of another
// record shows as well.
func sum(name string, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Update(0, table, bytesOf(name)), table, value) ^ uint32(len(name))*0x9e3779b1 //nolint:gosec // a name is short
}

// seal returns a value as it is kept.
func seal(name string, value []byte) string {
	sealed := binary.LittleEndian.AppendUint32(make([]byte, 0, sumSize+len(value)), sum(name, value))
	return textOf(append(sealed, value...))
}

// unseal returns the value that was sealed, a part of it.
func unseal(name string, sealed []byte) ([]byte, error) {
	if len(sealed) < sumSize || binary.LittleEndian.Uint32(sealed) != sum(name, sealed[sumSize:]) {
		return nil, errChecksum
	}
	return sealed[sumSize:], nil
}

// bytesOf and textOf change the type of what nobody changes.
func bytesOf(text string) []byte {
	if text == "" {
		return []byte{}
	}
	return unsafe.Slice(unsafe.StringData(text), len(text))
}

func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// token names one attempt at a change: eight bytes of the replica that made it,
// and eight that count.
type token [16]byte

// head is the value of headKey. Every change writes it, if the one that was
// there is the one that it has seen: so all changes are in one order.
type head struct {
	sequences [3]uint64 // of users, keys and events
	by        token
}

const headFormat = 1

func sequenceOf(b bucket) (int, error) {
	switch b {
	case users:
		return 0, nil
	case keys:
		return 1, nil
	case events:
		return 2, nil
	}
	return 0, errors.New("a bucket without a sequence")
}

func (h head) encode() string {
	value := []byte{headFormat}
	for _, n := range h.sequences {
		value = binary.BigEndian.AppendUint64(value, n)
	}
	return seal(headKey, append(value, h.by[:]...))
}

func decodeHead(sealed []byte) (h head, err error) {
	value, err := unseal(headKey, sealed)
	if err == nil && len(value) > 0 && value[0] != headFormat {
		return head{}, fmt.Errorf("%q: format %d, expected %d: %w", headKey, value[0], headFormat, records.ErrNewer)
	}
	if err == nil && len(value) != 1+8*len(h.sequences)+len(h.by) {
		err = errors.New("a value of the wrong length")
	}
	if err != nil {
		return head{}, fmt.Errorf("%w: %q: %w", store.ErrDamaged, headKey, err)
	}
	for i := range h.sequences {
		h.sequences[i] = binary.BigEndian.Uint64(value[1+8*i:])
	}
	copy(h.by[:], value[1+8*len(h.sequences):])
	return h, nil
}

// pack puts the records of events whose ids follow each other into one value.
func pack(records [][]byte) []byte {
	var packed []byte
	for _, record := range records {
		packed = append(binary.AppendUvarint(packed, uint64(len(record))), record...)
	}
	return packed
}

// unpack appends the entries of a pack.
func unpack(entries []records.Entry, first, packed []byte) ([]records.Entry, error) {
	if len(first) != 8 || len(packed) == 0 {
		return nil, errors.New("a pack without an id or event")
	}
	for id := binary.BigEndian.Uint64(first); len(packed) > 0; id++ {
		length, n := binary.Uvarint(packed)
		if n <= 0 || length > uint64(len(packed)-n) {
			return nil, errors.New("a pack that is malformed")
		}
		end := n + int(length) //nolint:gosec // it is at most len(packed)
		entries = append(entries, records.Entry{Bucket: records.EventsBucket, Key: binary.BigEndian.AppendUint64(nil, id), Value: packed[n:end:end]})
		packed = packed[end:]
	}
	return entries, nil
}

// derive appends the index entries of a primary record.
func derive(entries []records.Entry, b bucket, key, value string) ([]records.Entry, error) {
	if value == "" {
		return nil, errChecksum // what a damaged record is kept as
	}
	switch b {
	case packs:
		return unpack(entries, bytesOf(key), bytesOf(value))
	case lastUsed, invitations:
		return entries, nil
	}
	return records.Derive(entries, primaryName(b), bytesOf(key), bytesOf(value))
}
