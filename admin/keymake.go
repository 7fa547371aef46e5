package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// draft is a key that is about to be made, and its secret.
type draft struct {
	key    *apikey.Key
	secret apikey.Secret
}

// draft returns the key of owner that a request describes. place is where the
// request's fields stand.
func (s *service) draft(owner *store.User, request *NewKey, place string) (draft, error) {
	now := s.now()
	fields := fieldReader{place: place, now: now}
	key := fields.newKey(request, s.policy.Load().defaultLimit)
	if err := fields.problem(); err != nil {
		return draft{}, err
	}
	secret, err := apikey.NewSecret(rand.Reader)
	if err != nil {
		return draft{}, err
	}
	key.Hash, key.Hint = s.keyHasher.Hash(secret), secret.Hint()
	key.Owner, key.OwnerName = owner.ID, owner.Name
	key.CreatedAt = now.UTC().Truncate(time.Microsecond)
	return draft{key, secret}, nil
}

// createKey makes a key for owner.
func (s *service) createKey(ctx context.Context, by actor, owner *store.User, request *NewKey) (CreatedKey, error) {
	made, err := s.draft(owner, request, "body")
	if err != nil {
		return CreatedKey{}, err
	}
	stored, err := s.store.CreateKey(ctx, made.key, by.audited(s.now()))
	if err != nil {
		return CreatedKey{}, fmt.Errorf("creating a key: %w", err)
	}
	s.log(ctx, by, "key created", "key_id", stored.ID, "key_name", stored.Name, "owner", owner.Name)
	return CreatedKey{keyOf(stored, s.now()), made.secret.Reveal()}, nil
}

// createKeys makes keys for owner, all or none.
func (s *service) createKeys(ctx context.Context, by actor, owner *store.User, requests []NewKey) ([]CreatedKey, error) {
	drafts, keys := make([]draft, len(requests)), make([]*apikey.Key, len(requests))
	var faults []FieldProblem
	for i := range requests {
		var err error
		drafts[i], err = s.draft(owner, &requests[i], fmt.Sprintf("body.keys[%d]", i))
		var problem *Problem
		switch {
		case errors.As(err, &problem):
			faults = append(faults, problem.Errors...)
		case err != nil:
			return nil, err
		}
		keys[i] = drafts[i].key
	}
	if len(faults) > 0 {
		return nil, newProblem(CodeInvalidRequest, faults[:min(len(faults), maxFaults)]...)
	}
	stored, err := s.store.CreateKeys(ctx, keys, by.audited(s.now()))
	if err != nil {
		return nil, fmt.Errorf("creating keys: %w", err)
	}
	created := make([]CreatedKey, len(stored))
	for i, key := range stored {
		created[i] = CreatedKey{keyOf(key, s.now()), drafts[i].secret.Reveal()}
		s.log(ctx, by, "key created", "key_id", key.ID, "key_name", key.Name, "owner", owner.Name)
	}
	return created, nil
}

// deleteKey deletes a key of owner, or of anybody where owner is zero.
func (s *service) deleteKey(ctx context.Context, by actor, owner apikey.UserID, id apikey.KeyID) (DeletedKey, error) {
	key, err := s.store.DeleteKey(ctx, owner, id, by.audited(s.now()))
	if err != nil {
		return DeletedKey{}, fmt.Errorf("deleting a key: %w", err)
	}
	return s.deleted(ctx, by, key), nil
}

// deleteKeys deletes keys of owner, or of anybody where owner is zero, all or
// none.
func (s *service) deleteKeys(ctx context.Context, by actor, owner apikey.UserID, ids []int64) ([]DeletedKey, error) {
	keyIDs := make([]apikey.KeyID, len(ids))
	for i, id := range ids {
		keyIDs[i] = apikey.KeyID(id)
	}
	keys, err := s.store.DeleteKeys(ctx, owner, keyIDs, by.audited(s.now()))
	if err != nil {
		return nil, fmt.Errorf("deleting keys: %w", err)
	}
	deleted := make([]DeletedKey, len(keys))
	for i, key := range keys {
		deleted[i] = s.deleted(ctx, by, key)
	}
	return deleted, nil
}

func (s *service) deleted(ctx context.Context, by actor, key *apikey.Key) DeletedKey {
	s.log(ctx, by, "key deleted", "key_id", key.ID, "key_name", key.Name, "owner", key.OwnerName)
	return DeletedKey{ID: key.ID, Name: key.Name, Deleted: true}
}
