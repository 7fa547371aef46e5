package records

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// CreateKey implements [store.Keys]. It returns an [*apikey.FieldError] for a
// key that is not valid.
func (s *Store) CreateKey(ctx context.Context, key *apikey.Key, by store.Actor) (*apikey.Key, error) {
	created, err := newKey(key)
	if err != nil {
		return nil, failed("creating key", err)
	}
	by = by.Stored()
	err = s.engine.Update(ctx, func(tx Tx) error { return s.createKey(tx, created, by) })
	if err != nil {
		return nil, failed("creating key", err)
	}
	return created, nil
}

// CreateKeys implements [store.Keys].
func (s *Store) CreateKeys(ctx context.Context, keys []*apikey.Key, by store.Actor) ([]*apikey.Key, error) {
	if len(keys) == 0 {
		return nil, ctx.Err()
	}
	if len(keys) > store.MaxBatch {
		return nil, failed("creating keys", tooMany("keys", len(keys)))
	}
	created := make([]*apikey.Key, len(keys))
	for i, key := range keys {
		var err error
		if created[i], err = newKey(key); err != nil {
			return nil, failed("creating keys", below(fmt.Sprintf("keys[%d]", i), err))
		}
	}
	by = by.Stored()
	err := s.engine.Update(ctx, func(tx Tx) error {
		for i, key := range created {
			if err := s.createKey(tx, key, by); err != nil {
				return below(fmt.Sprintf("keys[%d]", i), err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, failed("creating keys", err)
	}
	return created, nil
}

// newKey returns key as it is to be kept but for its id.
func newKey(key *apikey.Key) (*apikey.Key, error) {
	if key.ID != 0 {
		return nil, idGiven("id", int64(key.ID))
	}
	created := store.StoredKey(key)
	return created, store.ValidateKey(created)
}

func (s *Store) createKey(tx Tx, key *apikey.Key, by store.Actor) error {
	id, err := nextID[apikey.KeyID](tx, KeysBucket)
	if err != nil {
		return err
	}
	key.ID = id
	if err := insertKey(tx, newEntry(key, encodeKey(key))); err != nil {
		return err
	}
	return s.note(tx, store.KeyEvent(store.ActionCreateKey, nil, key, by))
}

// idGiven says that what is to be made has an id already.
func idGiven(name string, id int64) error {
	return &apikey.FieldError{Field: name, Err: fmt.Errorf("expected none, got %d", id)}
}

func tooMany(name string, n int) error {
	return &apikey.FieldError{Field: name, Err: fmt.Errorf("expected at most %d, got %d", store.MaxBatch, n)}
}

// below puts the field of err, if it is of one, below another.
func below(parent string, err error) error {
	var field *apikey.FieldError
	if errors.As(err, &field) {
		return &apikey.FieldError{Field: parent + "." + field.Field, Err: field.Err}
	}
	return err
}

// keyEntry is what there is to be put for one key.
type keyEntry struct {
	id       apikey.KeyID
	owner    apikey.UserID
	hashes   []apikey.Hash // of the present secret, and of the one before where there is one
	used     bool
	lastUsed int64 // Unix time in seconds
	record   []byte
}

func newEntry(key *apikey.Key, record []byte) keyEntry {
	return keyEntry{
		id: key.ID, owner: key.Owner, hashes: hashesOf(key), record: record,
		used: !key.LastUsedAt.IsZero(), lastUsed: key.LastUsedAt.Unix(),
	}
}

// insertKey puts a key and its index entries, or returns ErrNotFound or
// ErrExists.
func insertKey(tx Tx, entry keyEntry) error {
	owner, err := tx.Get(UsersBucket, idKey(entry.owner))
	if err != nil {
		return err
	}
	if owner == nil {
		return &apikey.FieldError{Field: "owner", Err: store.ErrNotFound}
	}
	place := idKey(entry.id)
	taken, err := tx.Get(KeysBucket, place)
	if err != nil {
		return err
	}
	if taken != nil {
		return &apikey.FieldError{Field: "id", Err: store.ErrExists}
	}
	if err := tx.Put(KeysBucket, place, entry.record); err != nil {
		return err
	}
	for _, hash := range entry.hashes {
		if err := putHash(tx, hash, place); err != nil {
			return err
		}
	}
	if entry.used {
		if err := putLastUsed(tx, place, entry.lastUsed); err != nil {
			return err
		}
	}
	return tx.Put(OwnersBucket, appendID(idKey(entry.owner), entry.id), nil)
}

// hashesOf returns the hashes by which a key is found.
func hashesOf(key *apikey.Key) []apikey.Hash {
	if key.PreviousHash == (apikey.Hash{}) {
		return []apikey.Hash{key.Hash}
	}
	return []apikey.Hash{key.Hash, key.PreviousHash}
}

// putHash makes a hash lead to a key, or returns ErrExists.
func putHash(tx Tx, hash apikey.Hash, place []byte) error {
	taken, err := tx.Get(HashesBucket, hash[:])
	if err != nil {
		return err
	}
	if taken != nil {
		return &apikey.FieldError{Field: "hash", Err: store.ErrExists}
	}
	return tx.Put(HashesBucket, hash[:], place)
}

// UpdateKey implements [store.Keys].
func (s *Store) UpdateKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, change func(*apikey.Key) error, by store.Actor) (*apikey.Key, error) {
	by = by.Stored()
	var updated *apikey.Key
	err := s.engine.Update(ctx, func(tx Tx) error {
		before, err := loadKeyOf(tx, owner, id)
		if err != nil {
			return err
		}
		after, event, err := store.ChangeKey(before, change, by)
		if err != nil {
			return err
		}
		updated = after
		if event == nil {
			return nil
		}
		if err := replaceKey(tx, before, after); err != nil {
			return err
		}
		return s.note(tx, event)
	})
	if err != nil {
		return nil, failed(fmt.Sprintf("changing key %d", id), err)
	}
	return updated, nil
}

// replaceKey puts a key in the place of what it was.
func replaceKey(tx Tx, before, after *apikey.Key) error {
	place := idKey(after.ID)
	old, err := tx.Get(KeysBucket, place)
	if err != nil {
		return err
	}
	record, err := carryFields(encodeKey(after), old, func(tag uint64) bool { return slices.Contains(keyTags, tag) })
	if err != nil {
		return unreadable("key", int64(after.ID), err)
	}
	had, has := hashesOf(before), hashesOf(after)
	for _, hash := range had {
		if slices.Contains(has, hash) {
			continue
		}
		if err := tx.Delete(HashesBucket, hash[:]); err != nil {
			return err
		}
	}
	for _, hash := range has {
		if slices.Contains(had, hash) {
			continue
		}
		if err := putHash(tx, hash, place); err != nil {
			return err
		}
	}
	return tx.Put(KeysBucket, place, record)
}

// DeleteKey implements [store.Keys].
func (s *Store) DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, by store.Actor) (*apikey.Key, error) {
	by = by.Stored()
	var deleted *apikey.Key
	err := s.engine.Update(ctx, func(tx Tx) (err error) {
		deleted, err = s.deleteKey(tx, owner, id, by)
		return err
	})
	if err != nil {
		return nil, failed(fmt.Sprintf("deleting key %d", id), err)
	}
	return deleted, nil
}

// DeleteKeys implements [store.Keys].
func (s *Store) DeleteKeys(ctx context.Context, owner apikey.UserID, ids []apikey.KeyID, by store.Actor) ([]*apikey.Key, error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	if len(ids) > store.MaxBatch {
		return nil, failed("deleting keys", tooMany("key_ids", len(ids)))
	}
	by, ids = by.Stored(), slices.Clone(ids)
	deleted := make([]*apikey.Key, len(ids))
	err := s.engine.Update(ctx, func(tx Tx) (err error) {
		for i, id := range ids {
			deleted[i], err = s.deleteKey(tx, owner, id, by)
			if errors.Is(err, store.ErrNotFound) {
				return &apikey.FieldError{Field: fmt.Sprintf("key_ids[%d]", i), Err: err}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, failed("deleting keys", err)
	}
	return deleted, nil
}

func (s *Store) deleteKey(tx Tx, owner apikey.UserID, id apikey.KeyID, by store.Actor) (*apikey.Key, error) {
	key, err := loadKeyOf(tx, owner, id)
	if err != nil {
		return nil, err
	}
	for _, hash := range hashesOf(key) {
		if err := tx.Delete(HashesBucket, hash[:]); err != nil {
			return nil, err
		}
	}
	place := idKey(id)
	if err := tx.Delete(OwnersBucket, appendID(idKey(key.Owner), id)); err != nil {
		return nil, err
	}
	for _, bucket := range []string{LastUsedBucket, KeysBucket} {
		if err := tx.Delete(bucket, place); err != nil {
			return nil, err
		}
	}
	return key, s.note(tx, store.KeyEvent(store.ActionDeleteKey, key, nil, by))
}
