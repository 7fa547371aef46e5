package bolt

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
)

// FindKey implements [store.Keys].
func (s *Store) FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error) {
	var key *apikey.Key
	err := s.file.View(ctx, func(tx *boltfile.Tx) error {
		entry, err := tx.Get(hashesBucket, hash[:])
		if err != nil {
			return err
		}
		if entry == nil {
			return store.ErrNotFound
		}
		id, err := idAt[apikey.KeyID](entry)
		if err != nil {
			return err
		}
		key, err = loadKey(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return damaged("key %d has a hash and no record", id)
		}
		if err == nil && key.Hash != hash {
			return damaged("key %d is found by the hash of another", id)
		}
		return err
	})
	if err != nil {
		return nil, failed("finding key", err)
	}
	return key, nil
}

// loadKey reads a key, or returns ErrNotFound.
func loadKey(tx *boltfile.Tx, id apikey.KeyID) (*apikey.Key, error) {
	place := idKey(id)
	record, err := tx.Get(keysBucket, place)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, store.ErrNotFound
	}
	return keyOf(tx, id, place, record)
}

// keyOf reads the key that a record is of.
func keyOf(tx *boltfile.Tx, id apikey.KeyID, place, record []byte) (*apikey.Key, error) {
	key, err := decodeKey(record)
	if err != nil {
		return nil, unreadable("key", int64(id), err)
	}
	key.ID = id
	key.LastUsedAt, err = lastUsed(tx, place)
	return key, err
}

func lastUsed(tx *boltfile.Tx, place []byte) (time.Time, error) {
	value, err := tx.Get(lastUsedBucket, place)
	if err != nil || value == nil {
		return time.Time{}, err
	}
	if len(value) != 8 {
		return time.Time{}, damaged("a time of last use of %d bytes", len(value))
	}
	return time.Unix(int64(binary.BigEndian.Uint64(value)), 0).UTC(), nil
}

func putLastUsed(tx *boltfile.Tx, place []byte, seconds int64) error {
	return tx.Put(lastUsedBucket, place, binary.BigEndian.AppendUint64(nil, uint64(seconds)))
}

// CreateKey implements [store.Keys]. It returns an [*apikey.FieldError] for a
// key that is not valid.
func (s *Store) CreateKey(ctx context.Context, key *apikey.Key) (*apikey.Key, error) {
	if key.ID != 0 {
		return nil, fmt.Errorf("creating key: expected no id, got %d", key.ID)
	}
	if err := store.ValidateKey(key); err != nil {
		return nil, fmt.Errorf("creating key: %w", err)
	}
	created := storable(key)
	record := encodeKey(created)
	err := s.file.Update(ctx, func(tx *boltfile.Tx) (err error) {
		created.ID, err = nextID[apikey.KeyID](tx, keysBucket)
		if err != nil {
			return err
		}
		return insertKey(tx, newEntry(created, record))
	})
	if err != nil {
		return nil, failed("creating key", err)
	}
	return created, nil
}

// storable returns a copy of key as it is read back.
func storable(key *apikey.Key) *apikey.Key {
	stored := key.Clone()
	stored.CreatedAt = roundedTime(key.CreatedAt)
	if !key.LastUsedAt.IsZero() {
		stored.LastUsedAt = time.Unix(key.LastUsedAt.Unix(), 0).UTC()
	}
	return stored
}

// keyEntry is what there is to be put for one key.
type keyEntry struct {
	id       apikey.KeyID
	owner    apikey.UserID
	hash     apikey.Hash
	used     bool
	lastUsed int64 // Unix time in seconds
	record   []byte
}

func newEntry(key *apikey.Key, record []byte) keyEntry {
	return keyEntry{
		id: key.ID, owner: key.Owner, hash: key.Hash, record: record,
		used: !key.LastUsedAt.IsZero(), lastUsed: key.LastUsedAt.Unix(),
	}
}

// insertKey puts a key and its index entries, or returns ErrNotFound or
// ErrExists.
func insertKey(tx *boltfile.Tx, entry keyEntry) error {
	owner, err := tx.Get(usersBucket, idKey(entry.owner))
	if err != nil {
		return err
	}
	if owner == nil {
		return &apikey.FieldError{Field: "owner", Err: store.ErrNotFound}
	}
	place := idKey(entry.id)
	for _, unique := range []struct {
		field, bucket string
		key           []byte
	}{{"id", keysBucket, place}, {"hash", hashesBucket, entry.hash[:]}} {
		taken, err := tx.Get(unique.bucket, unique.key)
		if err != nil {
			return err
		}
		if taken != nil {
			return &apikey.FieldError{Field: unique.field, Err: store.ErrExists}
		}
	}
	if err := tx.Put(keysBucket, place, entry.record); err != nil {
		return err
	}
	if err := tx.Put(hashesBucket, entry.hash[:], place); err != nil {
		return err
	}
	if entry.used {
		if err := putLastUsed(tx, place, entry.lastUsed); err != nil {
			return err
		}
	}
	return tx.Put(ownersBucket, appendID(idKey(entry.owner), entry.id), nil)
}

// ListKeys implements [store.Keys].
func (s *Store) ListKeys(ctx context.Context, owner apikey.UserID) ([]*apikey.Key, error) {
	var keys []*apikey.Key
	err := s.file.View(ctx, func(tx *boltfile.Tx) error {
		keep := func(key *apikey.Key) error {
			keys = append(keys, key)
			return nil
		}
		if owner == 0 {
			return eachKey(ctx, tx, keep)
		}
		return eachKeyOf(ctx, tx, owner, keep)
	})
	if err != nil {
		return nil, failed("listing keys", err)
	}
	return keys, nil
}

// eachKey calls fn with all keys by ascending id.
func eachKey(ctx context.Context, tx *boltfile.Tx, fn func(*apikey.Key) error) error {
	return scan(ctx, tx, keysBucket, nil, func(place, record []byte) error {
		id, err := idAt[apikey.KeyID](place)
		if err != nil {
			return err
		}
		key, err := keyOf(tx, id, place, record)
		if err != nil {
			return err
		}
		return fn(key)
	})
}

// eachKeyOf calls fn with the keys of one owner by ascending id.
func eachKeyOf(ctx context.Context, tx *boltfile.Tx, owner apikey.UserID, fn func(*apikey.Key) error) error {
	return scan(ctx, tx, ownersBucket, idKey(owner), func(entry, _ []byte) error {
		id, err := idAt[apikey.KeyID](entry)
		if err != nil {
			return err
		}
		key, err := loadKey(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return damaged("key %d has an owner and no record", id)
		}
		if err != nil {
			return err
		}
		if key.Owner != owner {
			return damaged("key %d is listed for another user", id)
		}
		return fn(key)
	})
}

// scan is [boltfile.Tx.Scan] that stops when ctx is done.
func scan(ctx context.Context, tx *boltfile.Tx, bucket string, prefix []byte, fn func(key, value []byte) error) error {
	n := 0
	return tx.Scan(bucket, prefix, func(key, value []byte) error {
		if n++; n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return fn(key, value)
	})
}

// DeleteKey implements [store.Keys].
func (s *Store) DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID) (*apikey.Key, error) {
	var deleted *apikey.Key
	err := s.file.Update(ctx, func(tx *boltfile.Tx) (err error) {
		deleted, err = loadKey(tx, id)
		if err != nil {
			return err
		}
		if owner != 0 && deleted.Owner != owner {
			return store.ErrNotFound
		}
		place := idKey(id)
		for _, at := range []struct {
			bucket string
			key    []byte
		}{
			{hashesBucket, deleted.Hash[:]}, {ownersBucket, appendID(idKey(deleted.Owner), id)},
			{lastUsedBucket, place}, {keysBucket, place},
		} {
			if err := tx.Delete(at.bucket, at.key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, failed(fmt.Sprintf("deleting key %d", id), err)
	}
	return deleted, nil
}

// TouchKeys implements [store.Keys].
func (s *Store) TouchKeys(ctx context.Context, used map[apikey.KeyID]time.Time) error {
	type use struct {
		id      apikey.KeyID
		seconds int64
	}
	// A copy, since a change may still be made after ctx is done.
	uses := make([]use, 0, len(used))
	for id, at := range used {
		uses = append(uses, use{id, at.Unix()})
	}
	// In the order of the file each page is visited once.
	slices.SortFunc(uses, func(a, b use) int { return cmp.Compare(a.id, b.id) })
	err := s.file.Update(ctx, func(tx *boltfile.Tx) error {
		for _, use := range uses {
			place := idKey(use.id)
			record, err := tx.Get(keysBucket, place)
			if err != nil {
				return err
			}
			before, err := lastUsed(tx, place)
			if err != nil {
				return err
			}
			if record == nil || !before.IsZero() && before.Unix() >= use.seconds {
				continue
			}
			if err := putLastUsed(tx, place, use.seconds); err != nil {
				return err
			}
		}
		return nil
	})
	return failed("writing when keys were last used", err)
}
