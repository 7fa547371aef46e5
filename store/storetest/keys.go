package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var keyTests = []test{
	{"FindKey returns all that CreateKey was given", func(t *testing.T, s *subject) {
		user := s.user("ada")
		for _, key := range []*apikey.Key{
			fullKey(t, user, s.hash()),
			{Hash: s.hash(), Name: "bare", Owner: user.ID},
			{Hash: s.hash(), Name: "old", Owner: user.ID, CreatedAt: time.Date(1901, 1, 1, 0, 0, 0, 1000, time.UTC)},
		} {
			created, err := s.CreateKey(background(), key, by)
			s.check(err)
			want := key.Clone()
			want.ID = created.ID
			same(t, "created", created, want)
			found, err := s.FindKey(background(), key.Hash)
			s.check(err)
			same(t, "found", found, want)
			s.reopen()
			found, err = s.FindKey(background(), key.Hash)
			s.check(err)
			same(t, "found after reopening", found, want)
		}
	}},
	{"times are kept in UTC and whole microseconds, last use in whole seconds", func(t *testing.T, s *subject) {
		at := day.Add(999 * time.Nanosecond).In(time.FixedZone("elsewhere", 3600))
		key := &apikey.Key{Hash: s.hash(), Name: "zoned", Owner: s.user("ada").ID, CreatedAt: at, LastUsedAt: at}
		created, err := s.CreateKey(background(), key, by)
		s.check(err)
		found, err := s.FindKey(background(), key.Hash)
		s.check(err)
		same(t, "found", found, created)
		same(t, "creation", found.CreatedAt, day)
		same(t, "last use", found.LastUsedAt, day.Truncate(time.Second))
	}},
	{"FindKey of a hash that no key has is ErrNotFound", func(t *testing.T, s *subject) {
		hash := s.hash()
		for range 2 {
			key, err := s.FindKey(background(), hash)
			s.want(err, store.ErrNotFound)
			same(t, "key", key, (*apikey.Key)(nil))
		}
	}},
	{"FindKey finds a key that was created after it was looked for", func(t *testing.T, s *subject) {
		user := s.user("ada")
		hash := hashOf(s.made + 1)
		_, err := s.FindKey(background(), hash)
		s.want(err, store.ErrNotFound)
		key := s.key(user, "later")
		found, err := s.FindKey(background(), hash)
		s.check(err)
		same(t, "found", found, key)
	}},
	{"CreateKey refuses an id, and a key that is not valid", func(t *testing.T, s *subject) {
		user := s.user("ada")
		for name, key := range map[string]*apikey.Key{
			"id":                     {ID: 7, Hash: s.hash(), Name: "a", Owner: user.ID},
			"no name":                {Hash: s.hash(), Owner: user.ID},
			"no origin":              {Hash: s.hash(), Name: "a", Owner: user.ID, AllowedOrigins: []apikey.OriginPattern{{}}},
			"no hash":                {Name: "a", Owner: user.ID},
			"half a previous secret": {Hash: s.hash(), Name: "a", Owner: user.ID, PreviousHash: s.hash()},
			"no scope":               {Hash: s.hash(), Name: "a", Owner: user.ID, Scopes: make([]apikey.Scope, 1)},
			"high limit":             {Hash: s.hash(), Name: "a", Owner: user.ID, RateLimitPerHour: apikey.MaxRateLimit + 1},
		} {
			if _, err := s.CreateKey(background(), key, by); err == nil {
				t.Errorf("%s: no error", name)
			}
			_, err := s.FindKey(background(), key.Hash)
			s.want(err, store.ErrNotFound)
		}
	}},
	{"CreateKey for an owner who does not exist is ErrNotFound", func(t *testing.T, s *subject) {
		for _, owner := range []apikey.UserID{0, 1, -1, 1 << 62} {
			_, err := s.CreateKey(background(), &apikey.Key{Hash: s.hash(), Name: "orphan", Owner: owner}, by)
			s.want(err, store.ErrNotFound)
		}
		keys, err := s.ListKeys(background(), 0)
		s.check(err)
		same(t, "keys", len(keys), 0)
	}},
	{"CreateKey with a hash that is taken is ErrExists and changes nothing", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		key := s.key(ada, "first")
		_, err := s.CreateKey(background(), &apikey.Key{Hash: key.Hash, Name: "second", Owner: bob.ID}, by)
		s.want(err, store.ErrExists)
		found, err := s.FindKey(background(), key.Hash)
		s.check(err)
		same(t, "found", found, key)
		keys, err := s.ListKeys(background(), bob.ID)
		s.check(err)
		same(t, "keys of the other", len(keys), 0)
	}},
	{"ListKeys returns the keys of an owner, or all, by ascending id", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		var adas, all []*apikey.Key
		for i := range 120 {
			key := s.key([]*store.User{ada, bob}[i%2], "key")
			all = append(all, key)
			if i%2 == 0 {
				adas = append(adas, key)
			}
		}
		s.reopen()
		for _, c := range []struct {
			owner apikey.UserID
			want  []*apikey.Key
		}{{0, all}, {ada.ID, adas}, {bob.ID + 1, nil}, {-1, nil}} {
			keys, err := s.ListKeys(background(), c.owner)
			s.check(err)
			same(t, "keys", keys, c.want)
			if !slices.IsSorted(ids(keys)) {
				t.Errorf("ids of %d are not ascending", c.owner)
			}
		}
	}},
	{"DeleteKey removes a key and returns what it was", func(t *testing.T, s *subject) {
		user := s.user("ada")
		key, err := s.CreateKey(background(), fullKey(t, user, s.hash()), by)
		s.check(err)
		kept := s.key(user, "kept")
		_, err = s.FindKey(background(), key.Hash)
		s.check(err)
		deleted, err := s.DeleteKey(background(), 0, key.ID, by)
		s.check(err)
		same(t, "deleted", deleted, key)
		for range 2 {
			_, err = s.FindKey(background(), key.Hash)
			s.want(err, store.ErrNotFound)
			for _, owner := range []apikey.UserID{0, user.ID} {
				keys, err := s.ListKeys(background(), owner)
				s.check(err)
				same(t, "keys", keys, []*apikey.Key{kept})
			}
			_, err = s.DeleteKey(background(), 0, key.ID, by)
			s.want(err, store.ErrNotFound)
			s.reopen()
		}
	}},
	{"DeleteKey of another owner's key is ErrNotFound and leaves it", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		key := s.key(ada, "ada's")
		for _, owner := range []apikey.UserID{bob.ID, -1, 1 << 40} {
			deleted, err := s.DeleteKey(background(), owner, key.ID, by)
			s.want(err, store.ErrNotFound)
			same(t, "deleted", deleted, (*apikey.Key)(nil))
		}
		found, err := s.FindKey(background(), key.Hash)
		s.check(err)
		same(t, "found", found, key)
		_, err = s.DeleteKey(background(), ada.ID, key.ID, by)
		s.check(err)
	}},
	{"DeleteKey of an id that never was is ErrNotFound", func(_ *testing.T, s *subject) {
		for _, id := range []apikey.KeyID{0, 1, -1, 1 << 62} {
			_, err := s.DeleteKey(background(), 0, id, by)
			s.want(err, store.ErrNotFound)
		}
	}},
	{"a key's id is positive and never used again", func(t *testing.T, s *subject) {
		user := s.user("ada")
		var last apikey.KeyID
		for i := range 6 {
			key := s.key(user, "short-lived")
			if key.ID <= last {
				t.Fatalf("id %d after %d", key.ID, last)
			}
			last = key.ID
			_, err := s.DeleteKey(background(), 0, key.ID, by)
			s.check(err)
			if i%2 == 1 {
				s.reopen()
			}
		}
	}},
	{"a deleted key's hash is free", func(t *testing.T, s *subject) {
		user := s.user("ada")
		key := s.key(user, "first")
		_, err := s.DeleteKey(background(), 0, key.ID, by)
		s.check(err)
		again, err := s.CreateKey(background(), &apikey.Key{Hash: key.Hash, Name: "second", Owner: user.ID}, by)
		s.check(err)
		found, err := s.FindKey(background(), key.Hash)
		s.check(err)
		same(t, "found", found, again)
		same(t, "last use", found.LastUsedAt, time.Time{})
	}},
	{"TouchKeys sets whole seconds, never moves a time back and skips what is gone", func(t *testing.T, s *subject) {
		user := s.user("ada")
		key, gone := s.key(user, "used"), s.key(user, "gone")
		_, err := s.DeleteKey(background(), 0, gone.ID, by)
		s.check(err)
		for _, c := range []struct{ at, want time.Time }{
			{day.Add(time.Hour + time.Millisecond), day.Add(time.Hour).Truncate(time.Second)},
			{day, day.Add(time.Hour).Truncate(time.Second)},
			{day.Add(2 * time.Hour).In(time.FixedZone("elsewhere", -3600)), day.Add(2 * time.Hour).Truncate(time.Second)},
		} {
			s.check(s.TouchKeys(background(), map[apikey.KeyID]time.Time{key.ID: c.at, gone.ID: c.at, 0: c.at, -5: c.at, 1 << 50: c.at}))
			keys, err := s.ListKeys(background(), 0)
			s.check(err)
			want := key.Clone()
			want.LastUsedAt = c.want
			same(t, "keys", keys, []*apikey.Key{want})
			s.reopen()
			found, err := s.FindKey(background(), key.Hash)
			s.check(err)
			same(t, "found after reopening", found, want)
		}
		_, err = s.FindKey(background(), gone.Hash)
		s.want(err, store.ErrNotFound)
		s.check(s.TouchKeys(background(), nil))
	}},
	{"an error never shows a hash", func(t *testing.T, s *subject) {
		user := s.user("ada")
		key := s.key(user, "first")
		_, err := s.CreateKey(background(), &apikey.Key{Hash: key.Hash, Name: "second", Owner: user.ID}, by)
		_, other := s.FindKey(background(), s.hash())
		for _, err := range []error{err, other} {
			if strings.Contains(err.Error(), key.Hash.String()[:8]) {
				t.Errorf("the error shows it: %v", err)
			}
		}
	}},
}
