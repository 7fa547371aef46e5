package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var searchTests = []test{
	{"a search finds what its filter describes, in pages", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		var keys []*apikey.Key
		for i := range 60 {
			key := fullKey(t, []*store.User{ada, bob}[i%2], s.hash())
			key.Name = fmt.Sprintf("Key №%d", i)
			key.Disabled = i%3 == 0
			key.ExpiresAt = day.Add(time.Duration(i-10) * 12 * time.Hour)
			key.CreatedAt = day.Add(-time.Duration(i) * 24 * time.Hour)
			key.LastUsedAt = time.Time{}
			if i%4 == 0 {
				key.LastUsedAt = key.CreatedAt.Add(36 * time.Hour).Truncate(time.Second)
			}
			key.Notes, key.Metadata = "", apikey.Metadata{{Name: "team", Value: fmt.Sprintf("Ö%d", i%7)}}
			created, err := s.CreateKey(background(), key, by)
			s.check(err)
			keys = append(keys, created)
		}
		for _, owner := range []apikey.UserID{0, ada.ID, 99} {
			for _, search := range []string{"", "key №1", "ö3", "BOB", "zZ09", "#7", "#", "#07", "nothing"} {
				for _, state := range append(store.KeyStates(), store.AnyState) {
					filter := store.KeyFilter{Owner: owner, Search: search, State: state, Limit: 7, Now: day}
					for page := 0; ; page++ {
						got, err := s.SearchKeys(background(), filter)
						s.check(err)
						same(t, fmt.Sprintf("page %d of %+v", page, filter), got, naiveSearch(keys, filter))
						if filter.After = got.Next; got.Next == 0 {
							break
						}
					}
				}
			}
		}
	}},
	{"a search sees every change that came before it", func(t *testing.T, s *subject) {
		user := s.user("ada")
		finds := func(text string, want ...*apikey.Key) {
			t.Helper()
			page, err := s.SearchKeys(background(), store.KeyFilter{Search: text})
			s.check(err)
			same(t, text, ids(page.Keys), ids(want))
		}
		finds("a")
		key := s.key(user, "apple")
		finds("apple", key)
		pear := s.update(key.ID, func(key *apikey.Key) { key.Name = "pear" })
		finds("apple")
		finds("pear", pear)
		many, err := s.CreateKeys(background(), []*apikey.Key{{Hash: s.hash(), Name: "plum", Owner: user.ID}, {Hash: s.hash(), Name: "plum", Owner: user.ID}}, by)
		s.check(err)
		finds("plum", many[1], many[0])
		used := func(state store.KeyState) int {
			page, err := s.SearchKeys(background(), store.KeyFilter{State: state, Now: day})
			s.check(err)
			return page.Total
		}
		same(t, "unused", used(store.StateUnused), 3)
		s.check(s.TouchKeys(background(), map[apikey.KeyID]time.Time{key.ID: day, 99: day}))
		same(t, "unused", used(store.StateUnused), 2)
		_, err = s.DeleteKeys(background(), 0, ids(many), by)
		s.check(err)
		finds("plum")
		_, err = s.DeleteKey(background(), 0, key.ID, by)
		s.check(err)
		finds("pear")
	}},
	{"a search that cannot be is refused", func(t *testing.T, s *subject) {
		for _, filter := range []store.KeyFilter{{State: "odd"}, {Search: "a\x00b"}, {Search: string(make([]byte, store.MaxSearchLength+1))}} {
			_, err := s.SearchKeys(background(), filter)
			var field *apikey.FieldError
			if !errors.As(err, &field) {
				t.Errorf("%+v: got %v, want a field", filter, err)
			}
		}
	}},
}
