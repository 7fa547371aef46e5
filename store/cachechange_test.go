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
	for _, c := range changings {
		for _, when := range []struct{ begins, goesOn string }{
			{"earlier", before}, {"earlier", after}, {"earlier", later}, {before, before}, {before, after}, {before, later},
		} {
			t.Run(fmt.Sprintf("%s, the load begins %s and goes on %s", c.name, when.begins, when.goesOn), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					inner, cache := c.begin(t)
					release := inner.hold("after")
					result := make(chan string, 1)
					begin := func() {
						go func() { result <- state(t, cache, c.hash) }()
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
					if got := <-result; got != c.before {
						t.Errorf("the load tells %s, not what it read", got)
					}
					for range 2 {
						if got := state(t, cache, c.hash); got != c.after {
							t.Errorf("found %s, want %s: the load brought back the state before the change", got, c.after)
						}
					}
				})
			})
		}
	}
}

// Once the inner store has made a change, others may have learned of it before
// it is answered; no search that begins then may deny it, be the old state
// cached or on its way.
func TestSearchesSeeAChangeThatIsNotAnsweredYet(t *testing.T) {
	for _, c := range changings {
		for _, load := range []string{"the old state is cached", "the old state is being loaded"} {
			t.Run(c.name+", "+load, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					inner, cache := c.begin(t)
					release := func() {}
					if load == "the old state is being loaded" {
						release = inner.hold("after")
						go state(t, cache, c.hash)
						synctest.Wait()
					} else {
						state(t, cache, c.hash)
					}
					inner.changed = func(stage string) error {
						for range 2 {
							if got := state(t, cache, c.hash); stage == "after" && got != c.after {
								t.Errorf("a search denies a change that was made: found %s, want %s", got, c.after)
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

// What change refuses leaves no doubt: the key is cached as before.
func TestARefusedChangeLeavesNoDoubt(t *testing.T) {
	inner := newSlowKeys()
	cache := store.NewCache(inner, store.CacheOptions{})
	create(t, cache, 1)
	refused := errors.New("refused")
	_, err := cache.UpdateKey(t.Context(), 0, 1, func(*apikey.Key) error { return refused }, by)
	if !errors.Is(err, refused) {
		t.Fatal(err)
	}
	find(t, cache, 1)
	before := inner.finds.Load()
	if !find(t, cache, 1) || inner.finds.Load() != before {
		t.Error("the key is not cached any more")
	}
}

// A change of unknown outcome that begins only after it was answered shows as
// soon as it is made.
func TestAChangeThatBeginsAfterItWasAnswered(t *testing.T) {
	inner := newSlowKeys()
	late := &lateStore{slowKeys: inner}
	cache := store.NewCache(late, store.CacheOptions{})
	create(t, cache, 1)
	for _, n := range []int{1, 2} {
		find(t, cache, n)
	}
	if err := rotation(cache, 2, false); !errors.Is(err, store.ErrUnavailable) {
		t.Fatal(err)
	}
	for range 2 {
		if got := state(t, cache, 1) + ", " + state(t, cache, 2); got != "key, absent" {
			t.Errorf("before it is made: %s", got)
		}
	}
	if err := late.make(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := state(t, cache, 1) + ", " + state(t, cache, 2); got != "absent, rotated to 2" {
			t.Errorf("once it is made: %s", got)
		}
	}
}

// lateStore answers each update at once and makes it later.
type lateStore struct {
	*slowKeys
	make func() error
}

func (s *lateStore) UpdateKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, change func(*apikey.Key) error, by store.Actor) (*apikey.Key, error) {
	s.make = func() error {
		_, err := s.slowKeys.UpdateKey(ctx, owner, id, change, by)
		return err
	}
	return nil, store.ErrUnavailable
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
	t.Run("update", func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		makeRotated(t, cache)
		inner.changed = func(string) error { return store.ErrUnavailable }
		if err := rotation(cache, 3, true); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		inner.changed = nil
		for n, want := range map[int]string{1: "rotated to 2", 2: "rotated to 2", 3: "absent"} {
			if got := state(t, cache, n); got != want {
				t.Errorf("hash %d: found %s, want %s", n, got, want)
			}
		}
		rotate(t, inner, 3, true) // past the cache, as a late commit is
		for n, want := range map[int]string{1: "absent", 2: "rotated to 3", 3: "rotated to 3"} {
			if got := state(t, cache, n); got != want {
				t.Errorf("hash %d: found %s, want %s", n, got, want)
			}
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
