package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// update makes a change that must succeed.
func (s *subject) update(id apikey.KeyID, change func(*apikey.Key)) *apikey.Key {
	s.t.Helper()
	key, err := s.UpdateKey(background(), 0, id, func(key *apikey.Key) error {
		change(key)
		return nil
	}, by)
	s.check(err)
	return key
}

func rotate(key *apikey.Key, hash apikey.Hash, until time.Time) {
	key.PreviousHash, key.PreviousHint, key.PreviousUntil = key.Hash, key.Hint, until
	key.Hash, key.Hint = hash, "tk_…nEw1"
}

var changeTests = []test{
	{"Key returns a key of an owner, or of anybody", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		key, err := s.CreateKey(background(), fullKey(t, ada, s.hash()), by)
		s.check(err)
		for _, owner := range []apikey.UserID{0, ada.ID} {
			found, err := s.Key(background(), owner, key.ID)
			s.check(err)
			same(t, "found", found, key)
		}
		for _, c := range []struct {
			owner apikey.UserID
			id    apikey.KeyID
		}{{bob.ID, key.ID}, {-1, key.ID}, {0, 0}, {0, -1}, {0, key.ID + 1}, {ada.ID, 1 << 62}} {
			_, err := s.Key(background(), c.owner, c.id)
			s.want(err, store.ErrNotFound)
		}
	}},
	{"UpdateKey keeps every field that change sets, and only the store sets the times of change and use", func(t *testing.T, s *subject) {
		user := s.user("ada")
		key := s.key(user, "bare")
		s.check(s.TouchKeys(background(), map[apikey.KeyID]time.Time{key.ID: day}))
		full := fullKey(t, user, s.hash())
		want := full.Clone()
		want.ID, want.UpdatedAt = key.ID, day
		updated := s.update(key.ID, func(key *apikey.Key) {
			id := key.ID
			*key = *full.Clone()
			key.ID, key.UpdatedAt, key.LastUsedAt = id, day.Add(99*time.Hour), day.Add(99*time.Hour)
		})
		same(t, "updated", updated, want)
		for range 2 {
			for _, hash := range []apikey.Hash{want.Hash, want.PreviousHash} {
				found, err := s.FindKey(background(), hash)
				s.check(err)
				same(t, "found", found, want)
			}
			_, err := s.FindKey(background(), key.Hash)
			s.want(err, store.ErrNotFound)
			s.reopen()
		}
		bare := s.update(key.ID, func(k *apikey.Key) {
			*k = apikey.Key{ID: key.ID, Hash: key.Hash, Name: "bare", Owner: user.ID, OwnerName: user.Name, CreatedAt: day}
		})
		same(t, "bare again", bare, &apikey.Key{
			ID: key.ID, Hash: key.Hash, Name: "bare", Owner: user.ID, OwnerName: user.Name, CreatedAt: day, UpdatedAt: day, LastUsedAt: day.Truncate(time.Second),
		})
	}},
	{"UpdateKey refuses another id, owner or time of creation, and what is not valid", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		key := s.key(ada, "kept")
		events := len(s.events())
		for name, change := range map[string]func(*apikey.Key){
			"id":         func(key *apikey.Key) { key.ID++ },
			"owner":      func(key *apikey.Key) { key.Owner = bob.ID },
			"owner name": func(key *apikey.Key) { key.OwnerName = bob.Name },
			"creation":   func(key *apikey.Key) { key.CreatedAt = day.Add(time.Second) },
			"no hash":    func(key *apikey.Key) { key.Hash = apikey.Hash{} },
			"no name":    func(key *apikey.Key) { key.Name = "" },
			"high limit": func(key *apikey.Key) { key.RateLimitPerHour = apikey.MaxRateLimit + 1 },
			"half":       func(key *apikey.Key) { key.PreviousUntil = day },
			"twice one":  func(key *apikey.Key) { key.PreviousHash, key.PreviousUntil = key.Hash, day },
		} {
			_, err := s.UpdateKey(background(), 0, key.ID, func(key *apikey.Key) error {
				change(key)
				return nil
			}, by)
			var field *apikey.FieldError
			if !errors.As(err, &field) {
				t.Errorf("%s: got %v, want a field", name, err)
			}
		}
		found, err := s.FindKey(background(), key.Hash)
		s.check(err)
		same(t, "found", found, key)
		same(t, "events", len(s.events()), events)
	}},
	{"UpdateKey returns the error of change and changes nothing", func(t *testing.T, s *subject) {
		key := s.key(s.user("ada"), "kept")
		_, err := s.UpdateKey(background(), 0, key.ID, func(key *apikey.Key) error {
			key.Name = "lost"
			return errRefused
		}, by)
		s.want(err, errRefused)
		found, err := s.FindKey(background(), key.Hash)
		s.check(err)
		same(t, "found", found, key)
	}},
	{"UpdateKey of another owner's key, or of none, is ErrNotFound and calls nothing", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		key := s.key(ada, "ada's")
		change := func(*apikey.Key) error {
			t.Error("change was called")
			return nil
		}
		for _, owner := range []apikey.UserID{bob.ID, -1} {
			_, err := s.UpdateKey(background(), owner, key.ID, change, by)
			s.want(err, store.ErrNotFound)
		}
		_, err := s.UpdateKey(background(), 0, key.ID+1, change, by)
		s.want(err, store.ErrNotFound)
	}},
	{"a key that is rotated is found by both hashes, until it is rotated again or deleted", func(t *testing.T, s *subject) {
		user := s.user("ada")
		first, second, third := s.hash(), s.hash(), s.hash()
		key, err := s.CreateKey(background(), &apikey.Key{Hash: first, Hint: "tk_…0001", Name: "rotated", Owner: user.ID}, by)
		s.check(err)
		holds := func(found, gone []apikey.Hash) {
			t.Helper()
			for range 2 {
				for _, hash := range found {
					got, err := s.FindKey(background(), hash)
					s.check(err)
					same(t, "id", got.ID, key.ID)
					if !got.Answers(&hash, day) {
						t.Error("the key does not answer to what finds it")
					}
				}
				for _, hash := range gone {
					_, err := s.FindKey(background(), hash)
					s.want(err, store.ErrNotFound)
				}
			}
		}
		holds([]apikey.Hash{first}, []apikey.Hash{second, third})
		s.update(key.ID, func(key *apikey.Key) { rotate(key, second, day.Add(time.Hour)) })
		holds([]apikey.Hash{second, first}, []apikey.Hash{third})
		s.update(key.ID, func(key *apikey.Key) { rotate(key, third, day.Add(time.Hour)) })
		holds([]apikey.Hash{third, second}, []apikey.Hash{first})
		s.update(key.ID, func(key *apikey.Key) {
			key.PreviousHash, key.PreviousHint, key.PreviousUntil = apikey.Hash{}, "", time.Time{}
		})
		holds([]apikey.Hash{third}, []apikey.Hash{first, second})
		s.update(key.ID, func(key *apikey.Key) { rotate(key, first, day.Add(time.Hour)) })
		s.reopen()
		holds([]apikey.Hash{first, third}, []apikey.Hash{second})
		_, err = s.DeleteKey(background(), 0, key.ID, by)
		s.check(err)
		holds(nil, []apikey.Hash{first, second, third})
		for _, hash := range []apikey.Hash{first, third} {
			_, err := s.CreateKey(background(), &apikey.Key{Hash: hash, Name: "free again", Owner: user.ID}, by)
			s.check(err)
		}
	}},
	{"no two keys share a hash, be it the present or the previous one", func(t *testing.T, s *subject) {
		user := s.user("ada")
		key, other := s.key(user, "rotated"), s.key(user, "other")
		second := s.hash()
		key = s.update(key.ID, func(key *apikey.Key) { rotate(key, second, day.Add(time.Hour)) })
		for _, hash := range []apikey.Hash{key.Hash, key.PreviousHash} {
			_, err := s.CreateKey(background(), &apikey.Key{Hash: hash, Name: "new", Owner: user.ID}, by)
			s.want(err, store.ErrExists)
			_, err = s.CreateKey(background(), &apikey.Key{Hash: s.hash(), PreviousHash: hash, PreviousUntil: day, Name: "new", Owner: user.ID}, by)
			s.want(err, store.ErrExists)
			_, err = s.UpdateKey(background(), 0, other.ID, func(key *apikey.Key) error {
				rotate(key, hash, day)
				return nil
			}, by)
			s.want(err, store.ErrExists)
		}
		found, err := s.FindKey(background(), other.Hash)
		s.check(err)
		same(t, "the other", found, other)
	}},
	{"an update that changes nothing leaves no trace", func(t *testing.T, s *subject) {
		key, err := s.CreateKey(background(), fullKey(t, s.user("ada"), s.hash()), by)
		s.check(err)
		events := len(s.events())
		updated := s.update(key.ID, func(key *apikey.Key) { key.ExpiresAt = key.ExpiresAt.Add(time.Nanosecond) })
		same(t, "key", updated, key)
		same(t, "events", len(s.events()), events)
	}},
	{"updates of one key do not lose each other", func(t *testing.T, s *subject) {
		key := s.key(s.user("ada"), "counted")
		together(4, func(int) {
			for range 25 {
				_, err := s.UpdateKey(background(), 0, key.ID, func(key *apikey.Key) error {
					key.RateLimitPerHour++
					return nil
				}, by)
				if err != nil {
					t.Error(err)
				}
			}
		})
		found, err := s.FindKey(background(), key.Hash)
		s.check(err)
		same(t, "sum", found.RateLimitPerHour, uint32(100))
	}},
	{"a batch is made whole or not at all", func(t *testing.T, s *subject) {
		user := s.user("ada")
		batch := func(n int) (keys []*apikey.Key) {
			for range n {
				keys = append(keys, &apikey.Key{Hash: s.hash(), Name: "one of many", Owner: user.ID})
			}
			return keys
		}
		keys, err := s.CreateKeys(background(), batch(store.MaxBatch), by)
		s.check(err)
		listed, err := s.ListKeys(background(), 0)
		s.check(err)
		same(t, "keys", listed, keys)

		taken := batch(3)
		taken[2].Hash = keys[5].Hash
		invalid := batch(3)
		invalid[1].Name = ""
		twice := batch(3)
		twice[2].Hash = twice[0].Hash
		for name, c := range map[string]struct {
			keys  []*apikey.Key
			field string
		}{"taken": {taken, "keys[2].hash"}, "not valid": {invalid, "keys[1].name"}, "twice": {twice, "keys[2].hash"}, "too many": {batch(store.MaxBatch + 1), "keys"}} {
			_, err := s.CreateKeys(background(), c.keys, by)
			var field *apikey.FieldError
			if !errors.As(err, &field) || field.Field != c.field {
				t.Errorf("creating, %s: got %v, want field %s", name, err, c.field)
			}
		}
		ids := ids(keys)
		for name, c := range map[string]struct {
			ids   []apikey.KeyID
			field string
		}{
			"none": {[]apikey.KeyID{ids[0], ids[1], 1 << 40}, "key_ids[2]"}, "twice": {[]apikey.KeyID{ids[0], ids[0]}, "key_ids[1]"},
			"too many": {slices.Repeat(ids, 2), "key_ids"},
		} {
			_, err := s.DeleteKeys(background(), 0, c.ids, by)
			var field *apikey.FieldError
			if !errors.As(err, &field) || field.Field != c.field {
				t.Errorf("deleting, %s: got %v, want field %s", name, err, c.field)
			}
		}
		_, err = s.DeleteKeys(background(), user.ID+1, ids[:1], by)
		s.want(err, store.ErrNotFound)
		listed, err = s.ListKeys(background(), 0)
		s.check(err)
		same(t, "keys", listed, keys)

		deleted, err := s.DeleteKeys(background(), user.ID, ids[10:], by)
		s.check(err)
		same(t, "deleted", deleted, keys[10:])
		listed, err = s.ListKeys(background(), 0)
		s.check(err)
		same(t, "keys left", listed, keys[:10])
	}},
	{"EachKey stops at the first error and returns it", func(t *testing.T, s *subject) {
		user := s.user("ada")
		first := s.key(user, "first")
		s.key(user, "second")
		var seen []*apikey.Key
		err := s.EachKey(background(), user.ID, func(key *apikey.Key) error {
			seen = append(seen, key)
			return errRefused
		})
		s.want(err, errRefused)
		same(t, "seen", seen, []*apikey.Key{first})
	}},
}
