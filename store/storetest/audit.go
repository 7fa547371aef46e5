package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func changed(field, from, to string) store.Change {
	return store.Change{Field: field, From: from, To: to}
}

var auditTests = []test{
	{"every change leaves one event, with who made it and what it changed", func(t *testing.T, s *subject) {
		ada := s.user("ada")
		bob := s.user("bob")
		who := store.Actor{Kind: store.ActorUser, User: ada.ID, Name: "ada", Address: netip.MustParseAddr("2001:db8::7"), At: day.Add(time.Hour)}
		n := len(s.events())
		noted := func(action store.Action, kind string, id int64, name string, changes ...store.Change) {
			t.Helper()
			events := s.events()
			if len(events) != n+1 {
				t.Fatalf("%s: %d new events, want one", action, len(events)-n)
			}
			n++
			got := *events[n-1]
			want := store.Event{ID: got.ID, By: who, Action: action, TargetKind: kind, TargetID: id, TargetName: name, Changes: changes}
			same(t, string(action), []*store.Event{&got}, []*store.Event{&want})
		}
		_, err := s.CreateUser(background(), &store.User{Name: "eve", Email: "eve@example.io", PasswordHash: "$argon2id$canary"}, who)
		s.check(err)
		noted(store.ActionCreateUser, "user", 3, "eve", changed("username", "", `"eve"`), changed("email", "", `"eve@example.io"`), changed("role", "", `"member"`))
		_, err = s.UpdateUser(background(), 3, func(user *store.User) error {
			user.Role, user.Email = store.RoleAdmin, ""
			return nil
		}, who)
		s.check(err)
		noted(store.ActionUpdateUser, "user", 3, "eve", changed("email", `"eve@example.io"`, `""`), changed("role", `"member"`, `"admin"`))
		_, err = s.DeleteUser(background(), 3, who)
		s.check(err)
		noted(store.ActionDeleteUser, "user", 3, "eve", changed("username", `"eve"`, ""), changed("role", `"admin"`, ""))

		key, err := s.CreateKey(background(), &apikey.Key{Hash: s.hash(), Hint: "tk_…old1", Name: "<key>", Owner: bob.ID, OwnerName: "bob", RateLimitPerHour: 9}, who)
		s.check(err)
		id := int64(key.ID)
		noted(store.ActionCreateKey, "key", id, "<key>", changed("name", "", `"<key>"`), changed("owner", "", `"bob"`),
			changed("hint", "", `"tk_…old1"`), changed("rate_limit_per_hour", "", "9"))
		_, err = s.UpdateKey(background(), 0, key.ID, func(key *apikey.Key) error {
			key.RateLimitPerHour, key.Disabled, key.Notes = 0, true, "a\n\"b\""
			key.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("2001:db8::/32")}
			key.ExpiresAt, key.Metadata = day, apikey.Metadata{{Name: "plan", Value: "gold"}}
			return nil
		}, who)
		s.check(err)
		noted(store.ActionUpdateKey, "key", id, "<key>",
			changed("allowed_ips", "[]", `["203.0.113.7","2001:db8::/32"]`), changed("rate_limit_per_hour", "9", "null"), changed("enabled", "true", "false"),
			changed("expires_at", "null", `"2026-03-01T12:00:00.123456Z"`), changed("notes", `""`, `"a\n\"b\""`), changed("metadata", "{}", `{"plan":"gold"}`))
		second := s.hash()
		_, err = s.UpdateKey(background(), 0, key.ID, func(key *apikey.Key) error {
			rotate(key, second, day)
			return nil
		}, who)
		s.check(err)
		noted(store.ActionRotateKey, "key", id, "<key>", changed("hint", `"tk_…old1"`, `"tk_…nEw1"`),
			changed("previous_expires_at", "null", `"2026-03-01T12:00:00.123456Z"`))
		_, err = s.DeleteKey(background(), 0, key.ID, who)
		s.check(err)
		n++
		if last := s.events()[n-1]; last.Action != store.ActionDeleteKey || last.TargetID != id || !slices.Contains(last.Changes, changed("name", `"<key>"`, "")) {
			t.Errorf("deleting: %+v", last)
		}

		session := &store.Session{ID: store.SessionID(s.hash()), User: bob.ID, ExpiresAt: day, UserAgent: "curl"}
		s.check(s.CreateSession(background(), session, who))
		noted(store.ActionLogin, "session", 0, session.ID.Public(), changed("username", "", `"bob"`), changed("user_agent", "", `"curl"`))
		s.check(s.DeleteSession(background(), session.ID, who))
		noted(store.ActionLogout, "session", 0, session.ID.Public(), changed("username", `"bob"`, ""), changed("user_agent", `"curl"`, ""))
		kept := s.session(bob, time.Hour)
		s.session(bob, time.Hour)
		n = len(s.events())
		s.check(s.SetPasswordHash(background(), bob.ID, "", "$argon2id$canary", &kept.ID, who))
		noted(store.ActionSetPassword, "user", int64(bob.ID), "bob", changed("sessions", "2", "1"))
		_, err = s.DeleteSessions(background(), bob.ID, nil, who)
		s.check(err)
		noted(store.ActionLogout, "user", int64(bob.ID), "bob", changed("sessions", "1", "0"))

		invited := func(create bool) []store.Change {
			changes := []store.Change{
				changed("username", "", `"joe"`), changed("email", "", `"joe@example.io"`), changed("role", "", `"viewer"`),
				changed("expires_at", "", `"2026-03-01T13:00:00.123456Z"`),
			}
			for i := range changes {
				if !create {
					changes[i].From, changes[i].To = changes[i].To, ""
				}
			}
			return changes
		}
		invitation := &store.Invitation{ID: store.InvitationID(s.hash()), Name: "joe", Email: "joe@example.io", Role: store.RoleViewer, ExpiresAt: day.Add(time.Hour)}
		s.check(s.CreateInvitation(background(), invitation, who))
		noted(store.ActionInvite, "user", 0, "joe", invited(true)...)
		_, err = s.DeleteInvitation(background(), invitation.ID, who)
		s.check(err)
		noted(store.ActionUninvite, "user", 0, "joe", invited(false)...)
		invitation.ExpiresAt = day.Add(2 * time.Hour)
		s.check(s.CreateInvitation(background(), invitation, who))
		n++
		joe, err := s.AcceptInvitation(background(), invitation.ID, "$argon2id$canary", store.Actor{Address: who.Address, At: who.At})
		s.check(err)
		who.User, who.Name = joe.ID, joe.Name
		noted(store.ActionJoin, "user", int64(joe.ID), "joe", invited(true)[:3]...)

		for _, event := range s.events() {
			if text := fmt.Sprintf("%+v", *event); strings.Contains(text, "canary") || strings.Contains(text, second.String()[:8]) {
				t.Errorf("an event shows a hash: %s", text)
			}
		}
		before := s.events()
		s.reopen()
		same(t, "events after reopening", s.events(), before)
	}},
	{"what fails, or finds nothing to change, leaves no event", func(t *testing.T, s *subject) {
		ada := s.user("ada")
		key, session, invitation := s.key(ada, "kept"), s.session(ada, time.Hour), s.invitation("bob")
		before := s.events()
		_, err := s.CreateKey(background(), &apikey.Key{Hash: key.Hash, Name: "new", Owner: ada.ID}, by)
		s.want(err, store.ErrExists)
		_, err = s.CreateKeys(background(), []*apikey.Key{{Hash: s.hash(), Name: "new", Owner: ada.ID}, {Hash: key.Hash, Name: "new", Owner: ada.ID}}, by)
		s.want(err, store.ErrExists)
		_, err = s.DeleteKeys(background(), 0, []apikey.KeyID{key.ID, 99}, by)
		s.want(err, store.ErrNotFound)
		_, err = s.CreateUser(background(), &store.User{Name: "ada"}, by)
		s.want(err, store.ErrExists)
		_, err = s.DeleteUser(background(), ada.ID, by)
		s.want(err, store.ErrLastOwner)
		s.want(s.CreateSession(background(), session, by), store.ErrExists)
		s.check(s.DeleteSession(background(), store.SessionID(s.hash()), by))
		s.want(s.CreateInvitation(background(), &store.Invitation{ID: invitation.ID, Name: "eve"}, by), store.ErrExists)
		s.check(s.TouchKeys(background(), map[apikey.KeyID]time.Time{key.ID: day}))
		s.check(s.TouchSessions(background(), map[store.SessionID]time.Time{session.ID: day}))
		_, err = s.DeleteExpiredSessions(background(), day.Add(24*time.Hour))
		s.check(err)
		same(t, "events", s.events(), before)
	}},
	{"AppendEvent keeps an event as it may be shown, and refuses what is none", func(t *testing.T, s *subject) {
		event := &store.Event{
			By:     store.Actor{Kind: store.ActorUser, Name: "ad\x00a\xff" + strings.Repeat("é", 300), Address: netip.MustParseAddr("::ffff:203.0.113.7"), At: day.Add(3 * time.Nanosecond)},
			Action: store.ActionLoginFail, TargetKind: store.TargetAddress, TargetName: "203.0.113.7", Changes: []store.Change{{Field: "reason", To: `"password"`}},
		}
		s.check(s.AppendEvent(background(), event))
		want := event.Stored()
		event.Changes[0].To = "spoilt"
		event = want
		got := s.events()
		want.ID = got[0].ID
		same(t, "events", got, []*store.Event{want})
		if name := want.By.Name; len(name) > store.MaxActorName || strings.Contains(name, "\x00") || !utf8.ValidString(name) || !strings.HasPrefix(name, "ad a") {
			t.Errorf("%q is kept", name)
		}
		for name, change := range map[string]func(*store.Event){
			"an id": func(e *store.Event) { e.ID = 7 }, "no action": func(e *store.Event) { e.Action = "" }, "an odd actor": func(e *store.Event) { e.By.Kind = "x" },
			"a negative user": func(e *store.Event) { e.By.User = -1 }, "a negative target": func(e *store.Event) { e.TargetID = -1 },
			"a long change": func(e *store.Event) {
				e.Changes = []store.Change{{Field: "a", To: strings.Repeat("x", store.MaxChangeText+1)}}
			},
			"no field":     func(e *store.Event) { e.Changes = []store.Change{{To: "x"}} },
			"many changes": func(e *store.Event) { e.Changes = slices.Repeat([]store.Change{{Field: "a"}}, store.MaxEventChanges+1) },
		} {
			bad := *event
			bad.ID = 0
			change(&bad)
			var field *apikey.FieldError
			if err := s.AppendEvent(background(), &bad); !errors.As(err, &field) {
				t.Errorf("%s: got %v, want a field", name, err)
			}
		}
		same(t, "events", len(s.events()), 1)
	}},
	{"an actor without a time acts now", func(t *testing.T, s *subject) {
		before := time.Now().Truncate(time.Microsecond)
		s.check(s.AppendEvent(background(), &store.Event{Action: "x"}))
		event := s.events()[0]
		if event.By.At.Before(before) || event.By.At.After(time.Now()) || event.By.Kind != store.ActorSystem {
			t.Errorf("%+v", event)
		}
	}},
	{"ListEvents returns what a filter describes, the newest first, in pages", func(t *testing.T, s *subject) {
		var all []*store.Event
		for i := range 300 {
			event := &store.Event{
				By:     store.Actor{Kind: store.ActorUser, User: apikey.UserID(i % 3), Name: []string{"ada", "bob", "eve"}[i%3], At: day.Add(time.Duration(i) * time.Minute)},
				Action: []store.Action{"key.create", "key.delete", "login.fail", "session.create"}[i%4], TargetKind: []string{"key", "user"}[i%2], TargetID: int64(i % 5),
			}
			s.check(s.AppendEvent(background(), event))
		}
		filter := store.EventFilter{Limit: 1000}
		all, err := s.ListEvents(background(), filter)
		s.check(err)
		same(t, "count", len(all), 300)
		if !slices.IsSortedFunc(all, func(a, b *store.Event) int { return int(b.ID) - int(a.ID) }) {
			t.Fatal("the newest are not the first")
		}
		for name, c := range map[string]struct {
			filter store.EventFilter
			want   func(*store.Event) bool
		}{
			"all":     {store.EventFilter{}, func(*store.Event) bool { return true }},
			"actor":   {store.EventFilter{Actor: 2}, func(e *store.Event) bool { return e.By.User == 2 }},
			"name":    {store.EventFilter{ActorName: "eve"}, func(e *store.Event) bool { return e.By.Name == "eve" }},
			"actions": {store.EventFilter{ActionPrefix: "key."}, func(e *store.Event) bool { return e.Action == "key.create" || e.Action == "key.delete" }},
			"kind":    {store.EventFilter{TargetKind: "user"}, func(e *store.Event) bool { return e.TargetKind == "user" }},
			"target":  {store.EventFilter{TargetKind: "key", TargetID: 4}, func(e *store.Event) bool { return e.TargetKind == "key" && e.TargetID == 4 }},
			"from":    {store.EventFilter{From: day.Add(time.Hour)}, func(e *store.Event) bool { return !e.By.At.Before(day.Add(time.Hour)) }},
			"to":      {store.EventFilter{To: day.Add(time.Hour)}, func(e *store.Event) bool { return e.By.At.Before(day.Add(time.Hour)) }},
			"none":    {store.EventFilter{ActorName: "joe"}, func(*store.Event) bool { return false }},
		} {
			want := slices.DeleteFunc(slices.Clone(all), func(e *store.Event) bool { return !c.want(e) })
			c.filter.Limit = 7
			var got []*store.Event
			for {
				page, err := s.ListEvents(background(), c.filter)
				s.check(err)
				if len(page) > 7 {
					t.Fatalf("%s: a page of %d", name, len(page))
				}
				if got = append(got, page...); len(page) < 7 {
					break
				}
				c.filter.Before = page[len(page)-1].ID
			}
			if len(want) == 0 {
				want = nil
			}
			same(t, name, got, want)
		}
		page, err := s.ListEvents(background(), store.EventFilter{})
		s.check(err)
		same(t, "without a limit", len(page), store.DefaultEvents)
	}},
}
