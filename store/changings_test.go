package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// changing is a change, and what one hash leads to before and after it.
type changing struct {
	name          string
	prepare       func(t testing.TB, s store.Store)
	hash          int
	before, after string
	change        func(*store.Cache) error
}

func makeOne(t testing.TB, s store.Store) { create(t, s, 1) }

func makeRotated(t testing.TB, s store.Store) {
	create(t, s, 1)
	rotate(t, s, 2, true)
}

// rotate gives key 1 the hash n, and lets it keep the present one or not.
func rotate(t testing.TB, s store.Store, n int, keep bool) {
	t.Helper()
	if err := rotation(s, n, keep); err != nil {
		t.Fatal(err)
	}
}

func rotation(s store.Store, n int, keep bool) error {
	_, err := s.UpdateKey(context.Background(), 0, 1, func(key *apikey.Key) error {
		previous := key.Hash
		key.Hash, key.Name = hashOf(n), fmt.Sprint("rotated to ", n)
		key.PreviousHash, key.PreviousUntil = apikey.Hash{}, time.Time{}
		if keep {
			key.PreviousHash, key.PreviousUntil = previous, time.Unix(1e9, 0)
		}
		return nil
	}, by)
	return err
}

func rotateTo(n int, keep bool) func(*store.Cache) error {
	return func(cache *store.Cache) error { return rotation(cache, n, keep) }
}

func rename(cache *store.Cache) error {
	_, err := cache.UpdateKey(context.Background(), 0, 1, func(key *apikey.Key) error {
		key.Name = "renamed"
		return nil
	}, by)
	return err
}

func deleteOne(cache *store.Cache) error {
	_, err := cache.DeleteKey(context.Background(), 0, 1, by)
	return err
}

func deleteMany(cache *store.Cache) error {
	_, err := cache.DeleteKeys(context.Background(), 0, []apikey.KeyID{1}, by)
	return err
}

func createOne(cache *store.Cache) error {
	_, err := cache.CreateKey(context.Background(), &apikey.Key{Hash: hashOf(1), Name: "key", Owner: 1}, by)
	return err
}

func createMany(cache *store.Cache) error {
	_, err := cache.CreateKeys(context.Background(), []*apikey.Key{
		{Hash: hashOf(8), Name: "other", Owner: 1},
		{Hash: hashOf(9), PreviousHash: hashOf(1), PreviousUntil: time.Unix(1e9, 0), Name: "key", Owner: 1},
	}, by)
	return err
}

var changings = []changing{
	{"deletion", makeOne, 1, "key", "absent", deleteOne},
	{"deletion in a batch", makeOne, 1, "key", "absent", deleteMany},
	{"deletion, by the previous hash", makeRotated, 1, "rotated to 2", "absent", deleteOne},
	{"deletion in a batch, by the previous hash", makeRotated, 1, "rotated to 2", "absent", deleteMany},
	{"creation", nil, 1, "absent", "key", createOne},
	{"creation in a batch, by the previous hash", nil, 1, "absent", "key", createMany},
	{"update", makeOne, 1, "key", "renamed", rename},
	{"update, by the previous hash", makeRotated, 1, "rotated to 2", "renamed", rename},
	{"rotation, by the old hash", makeOne, 1, "key", "rotated to 2", rotateTo(2, true)},
	{"rotation, by the new hash", makeOne, 2, "absent", "rotated to 2", rotateTo(2, true)},
	{"rotation at once, by the old hash", makeOne, 1, "key", "absent", rotateTo(2, false)},
	{"second rotation, by the oldest hash", makeRotated, 1, "rotated to 2", "absent", rotateTo(3, true)},
	{"second rotation, by the old hash", makeRotated, 2, "rotated to 2", "rotated to 3", rotateTo(3, true)},
}

// begin returns a store and a cache in which a change can be made.
func (c *changing) begin(t testing.TB) (*slowKeys, *store.Cache) {
	inner := newSlowKeys()
	cache := store.NewCache(inner, store.CacheOptions{})
	if c.prepare != nil {
		c.prepare(t, cache)
	}
	return inner, cache
}
