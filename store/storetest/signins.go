package storetest

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var signInTests = []test{
	{"a session is kept with where it came from, bounded", func(t *testing.T, s *subject) {
		user := s.user("ada")
		session := &store.Session{
			ID: store.SessionID(s.hash()), User: user.ID, CreatedAt: day, ExpiresAt: day.Add(time.Hour),
			Address: netip.MustParseAddr("::ffff:203.0.113.7"), UserAgent: " curl/8\r\nX: y\xff " + strings.Repeat("é", 200),
		}
		s.check(s.CreateSession(background(), session, by))
		want := session.Stored()
		if len(want.UserAgent) > store.MaxUserAgent || strings.ContainsAny(want.UserAgent, "\r\n") || !utf8.ValidString(want.UserAgent) {
			t.Errorf("%q is kept", want.UserAgent)
		}
		same(t, "address", want.Address, netip.MustParseAddr("203.0.113.7"))
		found, err := s.FindSession(background(), session.ID)
		s.check(err)
		same(t, "found", found, want)
	}},
	{"ListSessions returns the sessions of a user, or all, the newest first", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		var adas, all []*store.Session
		for i := range 6 {
			session := &store.Session{
				ID: store.SessionID(s.hash()), User: []*store.User{ada, bob}[i%2].ID, CreatedAt: day.Add(time.Duration(i) * time.Second), ExpiresAt: day,
			}
			s.check(s.CreateSession(background(), session, by))
			all = append([]*store.Session{session}, all...)
			if i%2 == 0 {
				adas = append([]*store.Session{session}, adas...)
			}
		}
		for user, want := range map[apikey.UserID][]*store.Session{0: all, ada.ID: adas, 99: nil} {
			sessions, err := s.ListSessions(background(), user)
			s.check(err)
			same(t, "sessions", sessions, want)
		}
	}},
	{"DeleteSessions ends a user's sessions but one", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		kept, others := s.session(ada, time.Hour), []*store.Session{s.session(ada, time.Hour), s.session(ada, time.Hour)}
		foreign := s.session(bob, time.Hour)
		n, err := s.DeleteSessions(background(), ada.ID, &kept.ID, by)
		s.check(err)
		same(t, "count", n, 2)
		for _, session := range others {
			_, err := s.FindSession(background(), session.ID)
			s.want(err, store.ErrNotFound)
		}
		events := len(s.events())
		n, err = s.DeleteSessions(background(), ada.ID, &kept.ID, by)
		s.check(err)
		same(t, "count", n, 0)
		same(t, "events", len(s.events()), events)
		n, err = s.DeleteSessions(background(), ada.ID, nil, by)
		s.check(err)
		same(t, "count", n, 1)
		_, err = s.FindSession(background(), foreign.ID)
		s.check(err)
		_, err = s.DeleteSessions(background(), 99, nil, by)
		s.want(err, store.ErrNotFound)
	}},
	{"TouchSessions sets whole seconds, never moves a time back and skips what is gone", func(t *testing.T, s *subject) {
		session := s.session(s.user("ada"), time.Hour)
		for _, c := range []struct{ at, want time.Time }{
			{day.Add(time.Minute + time.Millisecond), day.Add(time.Minute).Truncate(time.Second)},
			{day, day.Add(time.Minute).Truncate(time.Second)},
			{day.Add(time.Hour), day.Add(time.Hour).Truncate(time.Second)},
		} {
			s.check(s.TouchSessions(background(), map[store.SessionID]time.Time{session.ID: c.at, store.SessionID(hashOf(1e6)): c.at}))
			found, err := s.FindSession(background(), session.ID)
			s.check(err)
			want := *session
			want.LastSeenAt = c.want
			same(t, "session", found, &want)
			s.reopen()
		}
		n, err := s.DeleteExpiredSessions(background(), day.Add(2*time.Hour))
		s.check(err)
		same(t, "expired", n, 1)
	}},
}
