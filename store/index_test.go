package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"pgregory.net/rapid"
)

// found returns the ids of the keys that a search finds.
func found(t testing.TB, s store.Store, text string) []apikey.KeyID {
	t.Helper()
	page, err := s.SearchKeys(context.Background(), store.KeyFilter{Search: text})
	if err != nil {
		t.Errorf("searching: %v", err)
	}
	var ids []apikey.KeyID
	for _, key := range page.Keys {
		ids = append(ids, key.ID)
	}
	return ids
}

func named(s store.Store, id apikey.KeyID, name string) error {
	_, err := s.UpdateKey(context.Background(), 0, id, func(key *apikey.Key) error {
		key.Name = name
		return nil
	}, by)
	return err
}

// What the index answers is what looking at every key would.
func TestIndexEqualsLookingAtEveryKey(t *testing.T) {
	names := rapid.SampledFrom([]string{"Apple", "apfel", "Äpfel", "pear", "ΣΊΣΥΦΟΣ", "İstanbul", strings.Repeat("long ", 20)})
	rapid.Check(t, func(t *rapid.T) {
		inner := newSlowKeys()
		index := store.NewIndex(inner)
		ids := rapid.Custom(func(t *rapid.T) apikey.KeyID { return apikey.KeyID(rapid.IntRange(1, int(inner.last)+1).Draw(t, "id")) })
		made := 0
		newKey := func(t *rapid.T) *apikey.Key {
			made++
			return &apikey.Key{
				Hash: hashOf(made), Name: names.Draw(t, "name"), Owner: apikey.UserID(rapid.IntRange(1, 3).Draw(t, "owner")),
				Notes: names.Draw(t, "notes"), CreatedAt: noon.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "age")) * 24 * time.Hour),
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				_, _ = index.CreateKey(context.Background(), newKey(t), by)
			},
			"create many": func(t *rapid.T) {
				_, _ = index.CreateKeys(context.Background(), []*apikey.Key{newKey(t), newKey(t)}, by)
			},
			"update": func(t *rapid.T) {
				days := rapid.IntRange(-10, 10).Draw(t, "days")
				_, _ = index.UpdateKey(context.Background(), 0, ids.Draw(t, "id"), func(key *apikey.Key) error {
					key.Name, key.Disabled = names.Draw(t, "name"), rapid.Bool().Draw(t, "disabled")
					key.ExpiresAt = time.Time{}
					if days != 0 {
						key.ExpiresAt = noon.Add(time.Duration(days) * 24 * time.Hour)
					}
					return nil
				}, by)
			},
			"delete": func(t *rapid.T) { _, _ = index.DeleteKey(context.Background(), 0, ids.Draw(t, "id"), by) },
			"delete many": func(t *rapid.T) {
				_, _ = index.DeleteKeys(context.Background(), 0, []apikey.KeyID{ids.Draw(t, "id")}, by)
			},
			"touch": func(t *rapid.T) {
				at := noon.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "ago")) * 24 * time.Hour)
				_ = index.TouchKeys(context.Background(), map[apikey.KeyID]time.Time{ids.Draw(t, "id"): at})
			},
			"search": func(t *rapid.T) {
				filter := store.KeyFilter{
					Owner: apikey.UserID(rapid.IntRange(0, 3).Draw(t, "owner")), State: rapid.SampledFrom(append(store.KeyStates(), "")).Draw(t, "state"),
					Search: rapid.SampledFrom([]string{"", "ap", "ÄPF", "#2", "σίσυφος", "i̇s", "G "}).Draw(t, "search"),
					After:  apikey.KeyID(rapid.IntRange(0, 8).Draw(t, "after")), Limit: rapid.IntRange(0, 3).Draw(t, "limit"), Now: noon,
				}
				want, err := inner.SearchKeys(context.Background(), filter)
				if err != nil {
					t.Fatal(err)
				}
				got, err := index.SearchKeys(context.Background(), filter)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("%+v: got %+v, %v, want %+v", filter, got, err, want)
				}
			},
		})
	})
}

// Changes that are made while the index is built are in it.
func TestChangesWhileTheIndexIsBuilt(t *testing.T) {
	inner := newSlowKeys()
	index := store.NewIndex(inner)
	for n := range 4 {
		create(t, index, n)
	}
	inner.eachHeld = func() {
		inner.eachHeld = nil
		if err := errors.Join(named(index, 1, "renamed"), index.TouchKeys(t.Context(), map[apikey.KeyID]time.Time{2: noon})); err != nil {
			t.Error(err)
		}
		if _, err := index.DeleteKey(t.Context(), 0, 3, by); err != nil {
			t.Error(err)
		}
		create(t, index, 5)
	}
	if got := found(t, index, ""); fmt.Sprint(got) != "[5 4 2 1]" {
		t.Errorf("found %v", got)
	}
	if got := found(t, index, "renamed"); fmt.Sprint(got) != "[1]" {
		t.Errorf("found %v by the new name", got)
	}
	page, err := index.SearchKeys(t.Context(), store.KeyFilter{State: store.StateUnused})
	if err != nil || page.Total != 3 {
		t.Errorf("%d keys were never used, %v", page.Total, err)
	}
	if inner.searches.Load() != 0 {
		t.Error("the inner store was searched")
	}
}

// Searches that come while the index is built wait for it, each no longer than
// its ctx.
func TestSearchesWaitForTheIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newSlowKeys()
		index := store.NewIndex(inner)
		create(t, index, 1)
		gate := make(chan struct{})
		inner.eachHeld = func() { <-gate }
		results := make(chan int, 2)
		for range 2 {
			go func() { results <- len(found(t, index, "")) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := index.SearchKeys(ctx, store.KeyFilter{})
			left <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("a search that left: %v", err)
		}
		close(gate)
		for range 2 {
			if n := <-results; n != 1 {
				t.Errorf("%d keys were found", n)
			}
		}
	})
}

// A build that fails is tried again by the next search.
func TestABuildThatFails(t *testing.T) {
	inner := newSlowKeys()
	index := store.NewIndex(inner)
	create(t, index, 1)
	ctx, cancel := context.WithCancel(t.Context())
	inner.eachHeld = cancel
	if _, err := index.SearchKeys(ctx, store.KeyFilter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	inner.eachHeld = nil
	if got := found(t, index, ""); len(got) != 1 {
		t.Errorf("found %v", got)
	}
}

// A change that was answered with ErrUnavailable shows as soon as it is made.
func TestSearchesAfterChangesOfUnknownOutcome(t *testing.T) {
	inner := newSlowKeys()
	index := store.NewIndex(inner)
	create(t, index, 1)
	create(t, index, 2)
	found(t, index, "")
	inner.changed = func(string) error { return store.ErrUnavailable }
	_, createErr := index.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(3), Name: "late", Owner: 1}, by)
	_, deleteErr := index.DeleteKey(t.Context(), 0, 2, by)
	for _, err := range []error{named(index, 1, "late"), createErr, deleteErr} {
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	inner.changed = nil
	if got := found(t, index, ""); fmt.Sprint(got) != "[2 1]" {
		t.Errorf("before they are made found %v", got)
	}
	create(t, inner, 3) // past the index, as late commits are
	if _, err := inner.DeleteKey(t.Context(), 0, 2, by); err != nil {
		t.Fatal(err)
	}
	if err := named(inner, 1, "late"); err != nil {
		t.Fatal(err)
	}
	if got := found(t, index, ""); fmt.Sprint(got) != "[3 1]" {
		t.Errorf("once they are made found %v", got)
	}
	if got := found(t, index, "late"); fmt.Sprint(got) != "[1]" {
		t.Errorf("found %v by the new name", got)
	}
}

// With more doubts than can be remembered the inner store is asked.
func TestTooManyDoubts(t *testing.T) {
	inner := newSlowKeys()
	index := store.NewIndex(inner)
	create(t, index, 0)
	found(t, index, "")
	inner.changed = func(string) error { return store.ErrUnavailable }
	for n := range 1001 {
		_, err := index.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(n + 1), Name: "late", Owner: 1}, by)
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	inner.changed = nil
	create(t, inner, 500)
	if got := found(t, index, ""); fmt.Sprint(got) != "[2 1]" || inner.searches.Load() != 1 {
		t.Errorf("found %v after %d searches of the inner store", got, inner.searches.Load())
	}
}

// Everything at once, for the race detector and the promise: a search that
// begins after a change was answered sees it.
func TestIndexUnderChanges(t *testing.T) {
	index := store.NewIndex(newSlowKeys())
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for round := range 100 {
				key := create(t, index, worker)
				name := fmt.Sprintf("worker %d, round %d", worker, round)
				if err := named(index, key.ID, name); err != nil {
					t.Error(err)
				}
				if err := index.TouchKeys(context.Background(), map[apikey.KeyID]time.Time{key.ID: noon}); err != nil {
					t.Error(err)
				}
				if got := found(t, index, name); len(got) != 1 || got[0] != key.ID {
					t.Errorf("%s: found %v, want %d", name, got, key.ID)
				}
				if _, err := index.DeleteKey(context.Background(), 0, key.ID, by); err != nil {
					t.Error(err)
				}
				if got := found(t, index, name); len(got) != 0 {
					t.Errorf("%s: found %v after it was deleted", name, got)
				}
			}
		})
	}
	all.Wait()
}

func TestASearchAfterClose(t *testing.T) {
	index := store.NewIndex(newSlowKeys())
	create(t, index, 1)
	found(t, index, "")
	if err := index.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := index.SearchKeys(t.Context(), store.KeyFilter{Search: "nothing"}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
