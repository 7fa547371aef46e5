package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

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

func (s *slowKeys) change(do func()) error {
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

func (s *slowKeys) CreateKey(_ context.Context, key *apikey.Key, _ store.Actor) (*apikey.Key, error) {
	created := key.Clone()
	err := s.change(func() {
		s.last++
		created.ID = s.last
		s.keys[key.Hash] = created
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

func (s *slowKeys) DeleteKey(_ context.Context, owner apikey.UserID, id apikey.KeyID, _ store.Actor) (*apikey.Key, error) {
	deleted, err := (*apikey.Key)(nil), store.ErrNotFound
	changeErr := s.change(func() {
		for hash, key := range s.keys {
			if key.ID == id && (owner == 0 || owner == key.Owner) {
				deleted, err = key, nil
				delete(s.keys, hash)
			}
		}
	})
	if changeErr != nil {
		return nil, changeErr
	}
	return deleted, err
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
