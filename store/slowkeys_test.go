package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var by = store.Actor{Kind: store.ActorOperator, Name: "tester"}

// slowKeys is a store of nothing but keys, whose calls can be held before and
// after they do what they do.
type slowKeys struct {
	store.Store
	mu     sync.Mutex
	keys   map[apikey.Hash]*apikey.Key
	last   apikey.KeyID
	finds  atomic.Int64
	closed bool

	findHeld func(ctx context.Context, stage string) // "before", "after"
	changed  func(stage string) error                // "before", "after"; the error is what is answered
	eachHeld func()                                  // after the keys were read

	writing  sync.Mutex
	searches atomic.Int64
}

func newSlowKeys() *slowKeys { return &slowKeys{keys: map[apikey.Hash]*apikey.Key{}} }

func (s *slowKeys) FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error) {
	s.finds.Add(1)
	if s.findHeld != nil {
		s.findHeld(ctx, "before")
	}
	s.mu.Lock()
	key, closed := s.keys[hash], s.closed
	s.mu.Unlock()
	err := ctx.Err()
	if s.findHeld != nil {
		s.findHeld(ctx, "after")
	}
	switch {
	case closed:
		return nil, store.ErrClosed
	case err != nil:
		return nil, err
	case key == nil:
		return nil, fmt.Errorf("slow: %w", store.ErrNotFound)
	}
	return key, nil
}

// change makes a change between its two stages; prepare comes before both.
func (s *slowKeys) change(prepare func() error, do func()) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if prepare != nil {
		if err := prepare(); err != nil {
			return err
		}
	}
	if s.changed != nil {
		if err := s.changed("before"); err != nil {
			return err
		}
	}
	s.mu.Lock()
	do()
	s.mu.Unlock()
	if s.changed != nil {
		return s.changed("after")
	}
	return nil
}

func (s *slowKeys) put(key *apikey.Key) {
	s.keys[key.Hash] = key
	if key.PreviousHash != (apikey.Hash{}) {
		s.keys[key.PreviousHash] = key
	}
}

func (s *slowKeys) remove(id apikey.KeyID) {
	maps.DeleteFunc(s.keys, func(_ apikey.Hash, key *apikey.Key) bool { return key.ID == id })
}

func (s *slowKeys) CreateKey(ctx context.Context, key *apikey.Key, by store.Actor) (*apikey.Key, error) {
	created, err := s.CreateKeys(ctx, []*apikey.Key{key}, by)
	if err != nil {
		return nil, err
	}
	return created[0], nil
}

func (s *slowKeys) CreateKeys(_ context.Context, keys []*apikey.Key, _ store.Actor) ([]*apikey.Key, error) {
	created := make([]*apikey.Key, len(keys))
	err := s.change(nil, func() {
		for i, key := range keys {
			created[i] = key.Clone()
			s.last++
			created[i].ID = s.last
			s.put(created[i])
		}
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

func (s *slowKeys) Key(ctx context.Context, owner apikey.UserID, id apikey.KeyID) (*apikey.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range s.keys {
		if key.ID == id && (owner == 0 || owner == key.Owner) {
			return key, ctx.Err()
		}
	}
	return nil, store.ErrNotFound
}

func (s *slowKeys) UpdateKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, change func(*apikey.Key) error, by store.Actor) (*apikey.Key, error) {
	var updated *apikey.Key
	err := s.change(func() error {
		before, err := s.Key(ctx, owner, id)
		if err != nil {
			return err
		}
		updated, _, err = store.ChangeKey(before, change, by)
		return err
	}, func() {
		s.remove(id)
		s.put(updated)
	})
	if err != nil {
		return nil, err
	}
	return updated, nil
}

func (s *slowKeys) DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, by store.Actor) (*apikey.Key, error) {
	deleted, err := s.DeleteKeys(ctx, owner, []apikey.KeyID{id}, by)
	if err != nil {
		return nil, err
	}
	return deleted[0], nil
}

func (s *slowKeys) DeleteKeys(ctx context.Context, owner apikey.UserID, ids []apikey.KeyID, _ store.Actor) ([]*apikey.Key, error) {
	var deleted []*apikey.Key
	err := s.change(func() error {
		for _, id := range ids {
			key, err := s.Key(ctx, owner, id)
			if err != nil {
				return err
			}
			deleted = append(deleted, key)
		}
		return nil
	}, func() {
		for _, id := range ids {
			s.remove(id)
		}
	})
	if err != nil {
		return nil, err
	}
	return deleted, nil
}

func (s *slowKeys) TouchKeys(_ context.Context, used map[apikey.KeyID]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for hash, key := range s.keys {
		if at, found := used[key.ID]; found && at.After(key.LastUsedAt) {
			touched := key.Clone()
			touched.LastUsedAt = at.Truncate(time.Second)
			s.keys[hash] = touched
		}
	}
	return nil
}

// EachKey calls fn with the keys as they were when it was called.
func (s *slowKeys) EachKey(ctx context.Context, owner apikey.UserID, fn func(*apikey.Key) error) error {
	s.mu.Lock()
	all := map[apikey.KeyID]*apikey.Key{}
	for _, key := range s.keys {
		all[key.ID] = key
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return store.ErrClosed
	}
	if s.eachHeld != nil {
		s.eachHeld()
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if key := all[id]; owner == 0 || key.Owner == owner {
			if err := fn(key); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (s *slowKeys) SearchKeys(ctx context.Context, filter store.KeyFilter) (store.KeyPage, error) {
	s.searches.Add(1)
	return store.SearchEach(filter, func(fn func(*apikey.Key) error) error { return s.EachKey(ctx, filter.Owner, fn) })
}

func (s *slowKeys) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func hashOf(n int) apikey.Hash { return sha256.Sum256(fmt.Append(nil, n)) }

func create(t testing.TB, s store.Store, n int) *apikey.Key {
	t.Helper()
	key, err := s.CreateKey(context.Background(), &apikey.Key{Hash: hashOf(n), Name: "key", Owner: 1}, by)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// state returns the name of the key that is found by a hash, or "absent".
func state(t testing.TB, s store.Store, n int) string {
	t.Helper()
	key, err := s.FindKey(context.Background(), hashOf(n))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return "absent"
	case err != nil:
		t.Errorf("finding key: %v", err)
		return err.Error()
	}
	if hash := hashOf(n); !key.Answers(&hash, time.Time{}) {
		t.Error("a key is found by a hash that is not its own")
	}
	return key.Name
}

// find returns whether the key is found.
func find(t testing.TB, s store.Store, n int) bool {
	t.Helper()
	key, err := s.FindKey(context.Background(), hashOf(n))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Errorf("finding key: %v", err)
	}
	return err == nil && key.Hash == hashOf(n)
}

// hold makes the next reading of the inner store stop at a stage until
// release is called.
func (s *slowKeys) hold(stage string) (release func()) {
	gate := make(chan struct{})
	var once sync.Once
	s.findHeld = func(ctx context.Context, at string) {
		held := false
		if at == stage {
			once.Do(func() { held = true })
		}
		if held {
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
	}
	return func() { close(gate) }
}
