package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var userTests = []test{
	{"a user is found by id, name and address, with all that CreateUser was given", func(t *testing.T, s *subject) {
		for _, user := range []*store.User{
			{Name: "ada", Email: "ada@example.io", PasswordHash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", CreatedAt: day},
			{Name: "bob"},
			{Name: "eve@example.io", Email: "eve@example.io", CreatedAt: day},
			{Name: "joe@example.io", Email: "joe@example.com"},
		} {
			created, err := s.CreateUser(background(), user, by)
			s.check(err)
			want := *user
			want.ID = created.ID
			if want.Name == "ada" {
				want.Role = store.RoleOwner // the first
			}
			same(t, "created", created, &want)
			for range 2 {
				byID, err := s.User(background(), created.ID)
				s.check(err)
				same(t, "by id", byID, &want)
				for _, login := range []string{user.Name, user.Email} {
					if login == "" {
						continue
					}
					found, err := s.FindUser(background(), login)
					s.check(err)
					same(t, "by login", found, &want)
				}
				s.reopen()
			}
		}
	}},
	{"times are kept in UTC and whole microseconds", func(t *testing.T, s *subject) {
		at := day.Add(999 * time.Nanosecond).In(time.FixedZone("elsewhere", 3600))
		user, err := s.CreateUser(background(), &store.User{Name: "ada", CreatedAt: at}, by)
		s.check(err)
		same(t, "creation", user.CreatedAt, day)
	}},
	{"a user who does not exist is ErrNotFound", func(t *testing.T, s *subject) {
		s.user("ada")
		for _, login := range []string{"", "bob", "ad", "adaa", "Ada", "@", "\x00", strings.Repeat("a", 5000)} {
			user, err := s.FindUser(background(), login)
			s.want(err, store.ErrNotFound)
			same(t, "user", user, (*store.User)(nil))
		}
		for _, id := range []apikey.UserID{0, -1, 2, 1 << 62} {
			_, err := s.User(background(), id)
			s.want(err, store.ErrNotFound)
		}
	}},
	{"a name or address that is taken, as either, is ErrExists and changes nothing", func(t *testing.T, s *subject) {
		_, err := s.CreateUser(background(), &store.User{Name: "ada@example.io", Email: "ada@example.com"}, by)
		s.check(err)
		for name, user := range map[string]*store.User{
			"name as name":       {Name: "ada@example.io", Email: "new@example.io"},
			"name as address":    {Name: "new", Email: "ada@example.io"},
			"address as name":    {Name: "ada@example.com", Email: "new@example.io"},
			"address as address": {Name: "new", Email: "ada@example.com"},
		} {
			_, err := s.CreateUser(background(), user, by)
			if s.want(err, store.ErrExists); err == nil {
				t.Error(name)
			}
			for _, login := range []string{"new", "new@example.io"} {
				_, err := s.FindUser(background(), login)
				s.want(err, store.ErrNotFound)
			}
		}
		users, err := s.ListUsers(background())
		s.check(err)
		same(t, "users", len(users), 1)
	}},
	{"several users may have no address", func(_ *testing.T, s *subject) {
		s.user("ada")
		s.user("bob")
	}},
	{"CreateUser refuses an id, and a name or address that is not canonical", func(t *testing.T, s *subject) {
		for _, user := range []*store.User{
			{ID: 3, Name: "ada"}, {}, {Name: "Ada"}, {Name: "ada "}, {Name: "аda"}, {Name: "ada", Email: "Ada@example.io"}, {Name: "ada", Email: "ada"},
		} {
			if _, err := s.CreateUser(background(), user, by); err == nil {
				t.Errorf("%+v: no error", user)
			}
		}
		users, err := s.ListUsers(background())
		s.check(err)
		same(t, "users", len(users), 0)
	}},
	{"ListUsers returns all users by ascending id", func(t *testing.T, s *subject) {
		want := []*store.User{s.user("zoe"), s.user("ada"), s.user("max")}
		for range 2 {
			users, err := s.ListUsers(background())
			s.check(err)
			same(t, "users", users, want)
			if !(users[0].ID > 0 && users[0].ID < users[1].ID && users[1].ID < users[2].ID) {
				t.Error("ids are not positive and ascending")
			}
			s.reopen()
		}
	}},
	{"SetPasswordHash changes the hash alone and ends all sessions of the user alone", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		key := s.key(ada, "kept")
		var ended []*store.Session
		for i := range 20 {
			ended = append(ended, s.session(ada, time.Duration(i)*time.Hour))
		}
		kept := s.session(bob, time.Hour)
		s.check(s.SetPasswordHash(background(), ada.ID, "", "$argon2id$new", nil, by))
		want := *ada
		want.PasswordHash = "$argon2id$new"
		for range 2 {
			user, err := s.User(background(), ada.ID)
			s.check(err)
			same(t, "user", user, &want)
			for _, session := range ended {
				_, err := s.FindSession(background(), session.ID)
				s.want(err, store.ErrNotFound)
			}
			found, err := s.FindSession(background(), kept.ID)
			s.check(err)
			same(t, "session of the other", found, kept)
			_, err = s.FindKey(background(), key.Hash)
			s.check(err)
			s.reopen()
		}
		n, err := s.DeleteExpiredSessions(background(), day.Add(1000*time.Hour))
		s.check(err)
		same(t, "sessions left", n, 1)
	}},
	{"SetPasswordHash of a user who does not exist is ErrNotFound", func(_ *testing.T, s *subject) {
		for _, id := range []apikey.UserID{0, -1, 1, 1 << 62} {
			s.want(s.SetPasswordHash(background(), id, "", "$argon2id$canary", nil, by), store.ErrNotFound)
		}
	}},
	{"an empty password hash is kept", func(t *testing.T, s *subject) {
		user := s.user("ada")
		for _, hash := range []string{"", "$argon2id$again", ""} {
			s.check(s.SetPasswordHash(background(), user.ID, "", hash, nil, by))
			found, err := s.FindUser(background(), "ada")
			s.check(err)
			same(t, "hash", found.PasswordHash, hash)
		}
	}},
}

var sessionTests = []test{
	{"FindSession returns what CreateSession was given, ended or not", func(t *testing.T, s *subject) {
		user := s.user("ada")
		for _, after := range []time.Duration{-time.Hour, 0, time.Hour, 1000000 * time.Hour} {
			session := s.session(user, after)
			for range 2 {
				found, err := s.FindSession(background(), session.ID)
				s.check(err)
				same(t, "session", found, session)
				s.reopen()
			}
		}
	}},
	{"CreateSession for a user who does not exist is ErrNotFound", func(_ *testing.T, s *subject) {
		for _, id := range []apikey.UserID{0, -1, 1, 1 << 62} {
			session := &store.Session{ID: store.SessionID(s.hash()), User: id, CreatedAt: day, ExpiresAt: day}
			s.want(s.CreateSession(background(), session, by), store.ErrNotFound)
			_, err := s.FindSession(background(), session.ID)
			s.want(err, store.ErrNotFound)
		}
	}},
	{"CreateSession with an id that is taken is ErrExists and changes nothing", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		session := s.session(ada, time.Hour)
		s.want(s.CreateSession(background(), &store.Session{ID: session.ID, User: bob.ID, ExpiresAt: day}, by), store.ErrExists)
		found, err := s.FindSession(background(), session.ID)
		s.check(err)
		same(t, "session", found, session)
		s.check(s.SetPasswordHash(background(), bob.ID, "", "$argon2id$new", nil, by))
		_, err = s.FindSession(background(), session.ID)
		s.check(err)
	}},
	{"DeleteSession ends a session; one that does not exist is no error", func(_ *testing.T, s *subject) {
		user := s.user("ada")
		session, kept := s.session(user, time.Hour), s.session(user, time.Hour)
		for range 2 {
			s.check(s.DeleteSession(background(), session.ID, by))
			_, err := s.FindSession(background(), session.ID)
			s.want(err, store.ErrNotFound)
			_, err = s.FindSession(background(), kept.ID)
			s.check(err)
			s.reopen()
		}
		s.check(s.DeleteSession(background(), store.SessionID{}, by))
	}},
	{"DeleteExpiredSessions removes those that ended before now, and counts them", func(t *testing.T, s *subject) {
		user := s.user("ada")
		var sessions []*store.Session
		for _, after := range []time.Duration{3, -2, 0, -1, 5, -7, 1, 2} {
			sessions = append(sessions, s.session(user, after*time.Microsecond))
		}
		for _, c := range []struct {
			now  time.Duration
			gone int
		}{{-8, 0}, {-7, 0}, {-6, 1}, {0, 2}, {0, 0}, {1, 1}, {4, 3}, {100, 1}, {100, 0}} {
			now := day.Add(c.now * time.Microsecond)
			n, err := s.DeleteExpiredSessions(background(), now)
			s.check(err)
			same(t, "count", n, c.gone)
			for _, session := range sessions {
				_, err := s.FindSession(background(), session.ID)
				if session.ExpiresAt.Before(now) {
					s.want(err, store.ErrNotFound)
				} else {
					s.check(err)
				}
			}
			s.reopen()
		}
	}},
}
