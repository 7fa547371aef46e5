package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// A load is held after it read what a change then makes untrue, and goes on
// when the change is at one of its stages. Nothing that begins once the change
// was answered may see what the load read.
func TestLateLoads(t *testing.T) {
	const before, after, later = "before it is made", "before it is answered", "later"
	for _, c := range []struct {
		name   string
		exists bool // before the change
		change func(*store.Cache) error
	}{{"deletion", true, deleteOne}, {"creation", false, createOne}} {
		for _, when := range []struct{ begins, goesOn string }{
			{"earlier", before}, {"earlier", after}, {"earlier", later}, {before, before}, {before, after}, {before, later},
		} {
			t.Run(fmt.Sprintf("%s, the load begins %s and goes on %s", c.name, when.begins, when.goesOn), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					inner := newSlowKeys()
					cache := store.NewCache(inner, store.CacheOptions{})
					if c.exists {
						create(t, cache, 1)
					}
					release := inner.hold("after")
					result := make(chan bool, 1)
					begin := func() {
						go func() { result <- find(t, cache, 1) }()
						synctest.Wait()
					}
					goOn := func() {
						release()
						synctest.Wait()
					}
					if when.begins == "earlier" {
						begin()
					}
					inner.changed = func(stage string) error {
						if stage == "before" && when.begins == before {
							begin()
						}
						if stage == "before" && when.goesOn == before || stage == "after" && when.goesOn == after {
							goOn()
						}
						return nil
					}
					if err := c.change(cache); err != nil {
						t.Fatal(err)
					}
					if when.goesOn == later {
						goOn()
					}
					if <-result != c.exists {
						t.Error("the load does not tell what it read")
					}
					for range 2 {
						if find(t, cache, 1) == c.exists {
							t.Error("the load brought back the state before the change")
						}
					}
				})
			})
		}
	}
}

func deleteOne(cache *store.Cache) error {
	_, err := cache.DeleteKey(context.Background(), 0, 1, by)
	return err
}

func createOne(cache *store.Cache) error {
	_, err := cache.CreateKey(context.Background(), &apikey.Key{Hash: hashOf(1), Name: "key", Owner: 1}, by)
	return err
}

// Once the inner store has made a change, others may have learned of it before
// it is answered; no search that begins then may deny it, be the old state
// cached or on its way.
func TestSearchesSeeAChangeThatIsNotAnsweredYet(t *testing.T) {
	for _, c := range []struct {
		name   string
		exists bool
		change func(*store.Cache) error
	}{{"deletion", true, deleteOne}, {"creation", false, createOne}} {
		for _, load := range []string{"the old state is cached", "the old state is being loaded"} {
			t.Run(c.name+", "+load, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					inner := newSlowKeys()
					cache := store.NewCache(inner, store.CacheOptions{})
					if c.exists {
						create(t, cache, 1)
					}
					release := func() {}
					if load == "the old state is being loaded" {
						release = inner.hold("after")
						go find(t, cache, 1)
						synctest.Wait()
					} else {
						find(t, cache, 1)
					}
					inner.changed = func(stage string) error {
						for range 2 {
							if stage == "after" && find(t, cache, 1) == c.exists {
								t.Error("a search denies a change that was made")
							}
						}
						return nil
					}
					if err := c.change(cache); err != nil {
						t.Fatal(err)
					}
					release()
					synctest.Wait()
				})
			})
		}
	}
}

// A change that was answered with ErrUnavailable may be made at any time
// later, and must show as soon as it is.
func TestChangesOfUnknownOutcome(t *testing.T) {
	t.Run("deletion", func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		create(t, cache, 1)
		create(t, cache, 2)
		find(t, cache, 1)
		find(t, cache, 2)
		inner.changed = func(string) error { return store.ErrUnavailable }
		if err := deleteOne(cache); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		inner.changed = nil
		if !find(t, cache, 1) {
			t.Error("the key is hidden, though it was not deleted")
		}
		if _, err := inner.DeleteKey(t.Context(), 0, 1, by); err != nil { // past the cache, as a late commit is
			t.Fatal(err)
		}
		if find(t, cache, 1) {
			t.Error("the key was cached while its deletion could still be made")
		}
		before := inner.finds.Load()
		if find(t, cache, 2); inner.finds.Load() != before {
			t.Error("another key is not cached any more")
		}
	})
	t.Run("creation", func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		inner.changed = func(string) error { return store.ErrUnavailable }
		if err := createOne(cache); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		inner.changed = nil
		find(t, cache, 1)
		create(t, inner, 1)
		if !find(t, cache, 1) {
			t.Error("its absence was cached while it could still be created")
		}
	})
}
