package store_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// What somebody else deletes is not found in the cache, and what somebody else
// makes is.
func TestCacheFollows(t *testing.T) {
	inner := newSlowKeys()
	cache := store.NewCache(inner, store.CacheOptions{})
	key := create(t, cache, 1)
	if !find(t, cache, 1) || find(t, cache, 2) {
		t.Fatal("the wrong keys are found")
	}
	made := create(t, inner, 2)
	if _, err := inner.DeleteKey(context.Background(), 0, key.ID, by); err != nil {
		t.Fatal(err)
	}
	if !find(t, cache, 1) || find(t, cache, 2) {
		t.Fatal("nothing was cached, which proves nothing")
	}
	cache.Follow(store.KeyChange{IDs: []apikey.KeyID{key.ID, made.ID}, Hashes: []apikey.Hash{key.Hash, made.Hash}})
	if find(t, cache, 1) || !find(t, cache, 2) {
		t.Error("the cache did not follow")
	}
}

// A search for a key ends with what says that changes may be missing, cached or
// not.
func TestCacheIsNotFresh(t *testing.T) {
	stale := errors.New("stale")
	var says error
	cache := store.NewCache(newSlowKeys(), store.CacheOptions{Fresh: func() error { return says }})
	key := create(t, cache, 1)
	if !find(t, cache, 1) {
		t.Fatal("the key is not found")
	}
	says = stale
	for _, hash := range []apikey.Hash{key.Hash, {9}} {
		if _, err := cache.FindKey(t.Context(), hash); !errors.Is(err, stale) {
			t.Errorf("got %v", err)
		}
	}
	says = nil
	if !find(t, cache, 1) {
		t.Error("the key is not found afterwards")
	}
}
