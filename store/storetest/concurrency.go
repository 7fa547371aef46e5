package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var concurrencyTests = []test{
	{"keys made at the same time all get an id of their own", func(t *testing.T, s *subject) {
		user := s.user("ada")
		made := make([]*apikey.Key, 200)
		together(8, func(worker int) {
			for i := worker; i < len(made); i += 8 {
				key, err := s.CreateKey(background(), &apikey.Key{Hash: hashOf(uint64(1e6 + i)), Name: "key", Owner: user.ID}, by)
				if err != nil {
					t.Errorf("creating: %v", err)
					return
				}
				found, err := s.FindKey(background(), key.Hash)
				if err != nil || found.ID != key.ID {
					t.Errorf("a key that was created is not found: %v", err)
				}
				made[i] = key
			}
		})
		if t.Failed() {
			return
		}
		slices.SortFunc(made, func(a, b *apikey.Key) int { return int(a.ID - b.ID) })
		keys, err := s.ListKeys(background(), user.ID)
		s.check(err)
		same(t, "keys", keys, made)
		if len(slices.Compact(ids(keys))) != len(made) {
			t.Error("two keys have one id")
		}
	}},
	{"one name is given once", func(t *testing.T, s *subject) {
		for round := range 20 {
			var won atomic.Int32
			together(4, func(worker int) {
				user := &store.User{Name: fmt.Sprintf("user%d@example.io", round)}
				if worker%2 == 1 {
					user = &store.User{Name: fmt.Sprintf("other%d-%d", round, worker), Email: user.Name}
				}
				_, err := s.CreateUser(background(), user, by)
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, store.ErrExists) {
					t.Errorf("creating: %v", err)
				}
			})
			same(t, "users of one name", won.Load(), int32(1))
		}
	}},
	{"one key is deleted once, and no search that begins afterwards finds it", func(t *testing.T, s *subject) {
		user := s.user("ada")
		for range 30 {
			key := s.key(user, "hunted")
			var deleted atomic.Bool
			var won atomic.Int32
			together(6, func(worker int) {
				if worker < 2 {
					_, err := s.DeleteKey(background(), 0, key.ID, by)
					if err == nil {
						won.Add(1)
					} else if !errors.Is(err, store.ErrNotFound) {
						t.Errorf("deleting: %v", err)
					}
					deleted.Store(true)
					return
				}
				for range 2000 {
					before := deleted.Load()
					_, err := s.FindKey(background(), key.Hash)
					if before && err == nil {
						t.Error("a deleted key was found")
						return
					}
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						t.Errorf("finding: %v", err)
						return
					}
					if before {
						return
					}
				}
			})
			same(t, "deletions", won.Load(), int32(1))
		}
	}},
	{"a sign-in and a change of password leave no session that is older than the password", func(t *testing.T, s *subject) {
		for round := range 20 {
			user := s.user(fmt.Sprintf("user%d", round))
			old := s.session(user, time.Hour)
			together(2, func(worker int) {
				if worker == 0 {
					if err := s.SetPasswordHash(background(), user.ID, "", "$argon2id$new", nil, by); err != nil {
						t.Error(err)
					}
					if _, err := s.FindSession(background(), old.ID); !errors.Is(err, store.ErrNotFound) {
						t.Errorf("the session was found after its password changed: %v", err)
					}
					return
				}
				for range 50 {
					changed, err := s.User(background(), user.ID)
					if err != nil {
						t.Error(err)
						return
					}
					_, err = s.FindSession(background(), old.ID)
					if changed.PasswordHash == "$argon2id$new" && err == nil {
						t.Error("a session outlived its password")
						return
					}
				}
			})
		}
	}},
	{"a change whose caller left is whole or not at all", func(t *testing.T, s *subject) {
		user := s.user("ada")
		acknowledged := map[apikey.Hash]bool{}
		for i := range 200 {
			ctx, cancel := context.WithCancel(background())
			hash := s.hash()
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				for range i % 50 {
					// Gives the change a head start of a differing length.
					_, _ = s.FindUser(background(), "nobody")
				}
				cancel()
			}()
			_, err := s.CreateKey(ctx, &apikey.Key{Hash: hash, Name: "key", Owner: user.ID}, by)
			<-gone
			if acknowledged[hash] = err == nil; err != nil && !(errors.Is(err, store.ErrUnavailable) && errors.Is(err, context.Canceled)) {
				t.Fatalf("creating: %v", err)
			}
		}
		s.reopen() // by now each was made or will never be
		keys, err := s.ListKeys(background(), user.ID)
		s.check(err)
		listed := map[apikey.Hash]bool{}
		for _, key := range keys {
			listed[key.Hash] = true
		}
		for hash, done := range acknowledged {
			_, err := s.FindKey(background(), hash)
			if found := err == nil; found != listed[hash] || done && !found {
				t.Errorf("acknowledged %v, found %v, listed %v", done, found, listed[hash])
			}
		}
	}},
	{"Close waits for changes under way", func(t *testing.T, s *subject) {
		user := s.user("ada")
		acknowledged := make([][]apikey.Hash, 4)
		together(5, func(worker int) {
			if worker == 4 {
				for range 20 {
					_, _ = s.ListKeys(background(), 0)
				}
				if err := s.Close(); err != nil {
					t.Errorf("closing: %v", err)
				}
				return
			}
			for i := range 2000 {
				hash := hashOf(uint64(1e6 + worker*1e5 + i))
				_, err := s.CreateKey(background(), &apikey.Key{Hash: hash, Name: "key", Owner: user.ID}, by)
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("creating: %v", err)
					}
					return
				}
				acknowledged[worker] = append(acknowledged[worker], hash)
			}
		})
		s.Store = s.must(s.open())
		for _, hash := range slices.Concat(acknowledged...) {
			if _, err := s.FindKey(background(), hash); err != nil {
				t.Fatalf("an acknowledged key: %v", err)
			}
		}
	}},
}

// together runs work on so many goroutines and waits for them.
func together(workers int, work func(worker int)) {
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() { work(worker) })
	}
	all.Wait()
}
