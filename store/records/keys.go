package records

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// FindKey implements [store.Keys].
func (s *Store) FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error) {
	var key *apikey.Key
	err := s.engine.View(ctx, func(tx Tx) error {
		entry, err := tx.Get(HashesBucket, hash[:])
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
		if err == nil && key.Hash != hash && key.PreviousHash != hash {
			return damaged("key %d is found by the hash of another", id)
		}
		return err
	})
	if err != nil {
		return nil, failed("finding key", err)
	}
	return key, nil
}

// Key implements [store.Keys].
func (s *Store) Key(ctx context.Context, owner apikey.UserID, id apikey.KeyID) (*apikey.Key, error) {
	var key *apikey.Key
	err := s.engine.View(ctx, func(tx Tx) (err error) {
		key, err = loadKeyOf(tx, owner, id)
		return err
	})
	if err != nil {
		return nil, failed(fmt.Sprintf("finding key %d", id), err)
	}
	return key, nil
}

// loadKeyOf reads a key of owner, or of anybody where owner is zero, or returns
// ErrNotFound.
func loadKeyOf(tx Tx, owner apikey.UserID, id apikey.KeyID) (*apikey.Key, error) {
	key, err := loadKey(tx, id)
	if err == nil && owner != 0 && key.Owner != owner {
		return nil, store.ErrNotFound
	}
	return key, err
}

// loadKey reads a key, or returns ErrNotFound.
func loadKey(tx Tx, id apikey.KeyID) (*apikey.Key, error) {
	place := idKey(id)
	record, err := tx.Get(KeysBucket, place)
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, store.ErrNotFound
	}
	return keyOf(tx, id, place, record)
}

// keyOf reads the key that a record is of.
func keyOf(tx Tx, id apikey.KeyID, place, record []byte) (*apikey.Key, error) {
	key, err := decodeKey(record)
	if err != nil {
		return nil, unreadable("key", int64(id), err)
	}
	key.ID = id
	key.LastUsedAt, err = lastUsed(tx, place)
	return key, err
}

func lastUsed(tx Tx, place []byte) (time.Time, error) {
	value, err := tx.Get(LastUsedBucket, place)
	if err != nil || value == nil {
		return time.Time{}, err
	}
	if len(value) != 8 {
		return time.Time{}, damaged("a time of last use of %d bytes", len(value))
	}
	return time.Unix(int64(binary.BigEndian.Uint64(value)), 0).UTC(), nil
}

func putLastUsed(tx Tx, place []byte, seconds int64) error {
	return tx.Put(LastUsedBucket, place, binary.BigEndian.AppendUint64(nil, uint64(seconds)))
}

// ListKeys implements [store.Keys].
func (s *Store) ListKeys(ctx context.Context, owner apikey.UserID) ([]*apikey.Key, error) {
	var keys []*apikey.Key
	err := s.EachKey(ctx, owner, func(key *apikey.Key) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// EachKey implements [store.Keys]. It calls fn within one transaction.
func (s *Store) EachKey(ctx context.Context, owner apikey.UserID, fn func(*apikey.Key) error) error {
	return failed("listing keys", s.engine.View(ctx, func(tx Tx) error {
		if owner == 0 {
			return eachKey(ctx, tx, fn)
		}
		return eachKeyOf(ctx, tx, owner, fn)
	}))
}

// SearchKeys implements [store.Keys]. It looks at every key of the owner whom
// the filter names, or of all.
func (s *Store) SearchKeys(ctx context.Context, filter store.KeyFilter) (store.KeyPage, error) {
	page, err := store.SearchEach(filter, func(fn func(*apikey.Key) error) error { return s.EachKey(ctx, filter.Owner, fn) })
	if err != nil {
		return store.KeyPage{}, fmt.Errorf("searching keys: %w", err)
	}
	return page, nil
}

// eachKey calls fn with all keys by ascending id.
func eachKey(ctx context.Context, tx Tx, fn func(*apikey.Key) error) error {
	return scan(ctx, tx, KeysBucket, nil, func(place, record []byte) error {
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
func eachKeyOf(ctx context.Context, tx Tx, owner apikey.UserID, fn func(*apikey.Key) error) error {
	return scan(ctx, tx, OwnersBucket, idKey(owner), func(entry, _ []byte) error {
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

// scan is [Tx.Scan] that stops when ctx is done.
func scan(ctx context.Context, tx Tx, bucket string, prefix []byte, fn func(key, value []byte) error) error {
	n := 0
	return tx.Scan(bucket, prefix, func(key, value []byte) error {
		if n++; n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return fn(key, value)
	})
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
	err := s.engine.Update(ctx, func(tx Tx) error {
		for _, use := range uses {
			place := idKey(use.id)
			record, err := tx.Get(KeysBucket, place)
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
