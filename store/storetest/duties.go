package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var dutyTests = []test{
	{"every call succeeds, so that its failures below mean something", func(t *testing.T, s *subject) {
		for _, call := range s.calls() {
			if err := call.run(background()); err != nil {
				t.Errorf("%s: %v", call.name, err)
			}
		}
	}},
	{"a context that is done ends every call with its error", func(t *testing.T, s *subject) {
		cancelled, cancel := context.WithCancel(background())
		cancel()
		late, cancel := context.WithDeadline(background(), time.Unix(1, 0))
		defer cancel()
		for _, call := range s.calls() {
			for want, ctx := range map[error]context.Context{context.Canceled: cancelled, context.DeadlineExceeded: late} {
				err := call.run(ctx)
				if !errors.Is(err, want) {
					t.Errorf("%s: got %v, want %v", call.name, err, want)
				}
				if got := errors.Is(err, store.ErrUnavailable); got != call.changes {
					t.Errorf("%s: %v is ErrUnavailable: %v, want %v", call.name, err, got, call.changes)
				}
			}
		}
	}},
	{"a closed store answers every call with ErrClosed", func(t *testing.T, s *subject) {
		calls := s.calls()
		for _, call := range calls[:1] {
			s.check(call.run(background())) // what a cache holds is closed, too
		}
		s.check(s.Close())
		for _, call := range calls {
			if err := call.run(background()); !errors.Is(err, store.ErrClosed) {
				t.Errorf("%s: got %v, want ErrClosed", call.name, err)
			}
		}
	}},
	{"Close may be called again", func(t *testing.T, s *subject) {
		s.check(s.Close())
		if err := s.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Fatal(err)
		}
	}},
	{"what was acknowledged is there after reopening", func(t *testing.T, s *subject) {
		user := s.user("ada")
		full, err := s.CreateKey(background(), fullKey(t, user, s.hash()), by)
		s.check(err)
		gone, session := s.key(user, "gone"), s.session(user, time.Hour)
		_, err = s.DeleteKey(background(), 0, gone.ID, by)
		s.check(err)
		for range 3 {
			s.reopen()
			keys, err := s.ListKeys(background(), 0)
			s.check(err)
			same(t, "keys", keys, []*apikey.Key{full})
			users, err := s.ListUsers(background())
			s.check(err)
			same(t, "users", users, []*store.User{user})
			found, err := s.FindSession(background(), session.ID)
			s.check(err)
			same(t, "session", found, session)
			_, err = s.FindKey(background(), gone.Hash)
			s.want(err, store.ErrNotFound)
		}
	}},
	{"nothing that went in is kept", func(t *testing.T, s *subject) {
		user := s.user("ada")
		key := fullKey(t, user, s.hash())
		created, err := s.CreateKey(background(), key, by)
		s.check(err)
		want := created.Clone()
		spoil(key)
		session := &store.Session{ID: store.SessionID(s.hash()), User: user.ID, CreatedAt: day, ExpiresAt: day}
		s.check(s.CreateSession(background(), session, by))
		id := session.ID
		*session = store.Session{}
		given := &store.User{Name: "bob", Email: "bob@example.io", CreatedAt: day}
		bob, err := s.CreateUser(background(), given, by)
		s.check(err)
		*given = store.User{}
		used := map[apikey.KeyID]time.Time{bobsKey(s, bob).ID: day}
		s.check(s.TouchKeys(background(), used))
		clear(used)

		found, err := s.FindKey(background(), want.Hash)
		s.check(err)
		same(t, "key", found, want)
		same(t, "created key", created, want)
		kept, err := s.FindSession(background(), id)
		s.check(err)
		same(t, "session", kept, &store.Session{ID: id, User: user.ID, CreatedAt: day, ExpiresAt: day})
		again, err := s.User(background(), bob.ID)
		s.check(err)
		same(t, "user", again, &store.User{ID: bob.ID, Name: "bob", Email: "bob@example.io", CreatedAt: day})
	}},
	{"users and sessions that came out are the caller's", func(t *testing.T, s *subject) {
		user, err := s.CreateUser(background(), &store.User{Name: "ada", CreatedAt: day}, by)
		s.check(err)
		session := s.session(user, time.Hour)
		want := *user
		*user = store.User{}
		for range 2 {
			byID, err := s.User(background(), want.ID)
			s.check(err)
			same(t, "by id", byID, &want)
			*byID = store.User{}
			byName, err := s.FindUser(background(), "ada")
			s.check(err)
			same(t, "by name", byName, &want)
			*byName = store.User{}
			all, err := s.ListUsers(background())
			s.check(err)
			same(t, "all", all, []*store.User{&want})
			*all[0] = store.User{}
			found, err := s.FindSession(background(), session.ID)
			s.check(err)
			same(t, "session", found, session)
			*found = store.Session{}
		}
	}},
	{"a key that came out stays as it was, whatever changes afterwards", func(t *testing.T, s *subject) {
		created, err := s.CreateKey(background(), fullKey(t, s.user("ada"), s.hash()), by)
		s.check(err)
		found, err := s.FindKey(background(), created.Hash)
		s.check(err)
		before := found.Clone()
		s.check(s.TouchKeys(background(), map[apikey.KeyID]time.Time{found.ID: day.Add(time.Hour)}))
		_, err = s.DeleteKey(background(), 0, found.ID, by)
		s.check(err)
		for i := range 50 {
			s.key(s.user("filler"+strings.Repeat("x", i%20)+s.hash().String()[:8]), strings.Repeat("x", i%90+1))
		}
		s.check(s.Close())
		same(t, "key", found, before)
	}},
	{"no error shows a password or session", func(t *testing.T, s *subject) {
		user := s.user("ada")
		session := s.session(user, time.Hour)
		canary := "$argon2id$canary"
		_, taken := s.CreateUser(background(), &store.User{Name: "ada", PasswordHash: canary}, by)
		_, invalid := s.CreateUser(background(), &store.User{Name: "ADA", PasswordHash: canary}, by)
		errs := []error{
			taken, invalid,
			s.SetPasswordHash(background(), 99, "", canary, nil, by),
			s.CreateSession(background(), session, by),
			s.CreateSession(background(), &store.Session{ID: store.SessionID(s.hash()), User: 99}, by),
		}
		_, err := s.FindSession(background(), store.SessionID(s.hash()))
		errs = append(errs, err)
		s.check(s.Close())
		errs = append(errs, s.SetPasswordHash(background(), user.ID, "", canary, nil, by), s.CreateSession(background(), session, by), s.DeleteSession(background(), session.ID, by))
		for i, err := range errs {
			if err == nil {
				t.Fatalf("call %d did not fail", i)
			}
			if text := err.Error(); strings.Contains(text, canary) || strings.Contains(text, apikey.Hash(session.ID).String()[:8]) {
				t.Errorf("call %d shows it", i)
			}
		}
	}},
}

func bobsKey(s *subject, bob *store.User) *apikey.Key { return s.key(bob, "bob's") }

// spoil changes all that a key refers to.
func spoil(key *apikey.Key) {
	for i := range key.AllowedOrigins {
		key.AllowedOrigins[i] = apikey.OriginPattern{}
	}
	clear(key.AllowedIPs)
	clear(key.Scopes)
	clear(key.Metadata)
	*key = apikey.Key{}
}
