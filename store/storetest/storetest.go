// Package storetest is the suite that every [store.Store] passes: what the
// package store says of one, sentence by sentence, and a random walk against a
// model.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(dir string) storetest.Opener {
//			return func() (store.Store, error) {
//				return bolt.Open(t.Context(), filepath.Join(dir, "keys.db"), bolt.Options{})
//			}
//		})
//	}
package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"pgregory.net/rapid"
)

// Opener opens one and the same store. It is called again only after the store
// that it returned last was closed.
type Opener func() (store.Store, error)

// Run runs the suite. Each call of fresh begins with a store that is empty;
// dir is an empty folder of its own, which is removed at the end.
func Run(t *testing.T, fresh func(dir string) Opener) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"keys", keyTests}, {"key changes", changeTests}, {"searches", searchTests}, {"users", userTests}, {"roles", roleTests},
		{"invitations", invitationTests}, {"sessions", sessionTests}, {"sign-ins", signInTests}, {"audit", auditTests},
		{"duties", dutyTests}, {"concurrency", concurrencyTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, test := range group.tests {
				t.Run(test.name, func(t *testing.T) {
					test.run(t, begin(t, fresh(t.TempDir())))
				})
			}
		})
	}
	t.Run("model", func(t *testing.T) { walk(t, fresh) })
}

type test struct {
	name string
	run  func(t *testing.T, s *subject)
}

// subject is the store under test, with shorthands that stop the test on an
// error that is not expected.
type subject struct {
	store.Store
	t    testingT
	open Opener
	made uint64 // makes hashes and session ids differ
}

// testingT is what a test and a check of rapid have in common.
type testingT interface {
	rapid.TB
	Cleanup(func())
}

func begin(t testingT, open Opener) *subject {
	t.Helper()
	s := &subject{t: t, open: open}
	s.Store = s.must(s.open())
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func (s *subject) must(opened store.Store, err error) store.Store {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("opening: %v", err)
	}
	return opened
}

// reopen closes the store and opens it again.
func (s *subject) reopen() {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Fatalf("closing: %v", err)
	}
	s.Store = s.must(s.open())
}

func (s *subject) hash() apikey.Hash {
	s.made++
	return hashOf(s.made)
}

func hashOf(n uint64) apikey.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
}

// day is the moment at which everything in the suite is made.
var day = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

// by is who makes everything in the suite.
var by = store.Actor{Kind: store.ActorOperator, Name: "tester", Address: netip.MustParseAddr("203.0.113.7"), At: day}

// user makes a user with this name.
func (s *subject) user(name string) *store.User {
	s.t.Helper()
	user, err := s.CreateUser(background(), &store.User{Name: name, PasswordHash: "$argon2id$" + name, CreatedAt: day}, by)
	s.check(err)
	return user
}

// key makes a key of owner.
func (s *subject) key(owner *store.User, name string) *apikey.Key {
	s.t.Helper()
	key, err := s.CreateKey(background(), &apikey.Key{
		Hash: s.hash(), Hint: "tk_…a1B2", Name: name, Owner: owner.ID, OwnerName: owner.Name, CreatedAt: day,
	}, by)
	s.check(err)
	return key
}

// events returns all events, the oldest first.
func (s *subject) events() []*store.Event {
	s.t.Helper()
	events, err := s.ListEvents(background(), store.EventFilter{Limit: store.MaxEvents})
	s.check(err)
	slices.Reverse(events)
	return events
}

// session makes a session of user that ends after a while.
func (s *subject) session(user *store.User, after time.Duration) *store.Session {
	s.t.Helper()
	session := &store.Session{ID: store.SessionID(s.hash()), User: user.ID, CreatedAt: day, ExpiresAt: day.Add(after)}
	s.check(s.CreateSession(background(), session, by))
	return session
}

// fullKey returns a key that uses all that a key can hold.
func fullKey(t rapid.TB, owner *store.User, hash apikey.Hash) *apikey.Key {
	t.Helper()
	key := &apikey.Key{
		Hash: hash, Hint: "tk_…zZ09", Name: "frontend „Größe“ 鍵", Owner: owner.ID, OwnerName: owner.Name,
		Strict: true, RateLimitPerHour: apikey.MaxRateLimit, CreatedAt: day, LastUsedAt: day.Truncate(time.Second),
	}
	for _, text := range []string{"https://app.example.io", "http://*.example.io:8080", "example.io", "null", "https://bücher.example", "http://[2001:db8::1]:81"} {
		origin, err := apikey.ParseOriginPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		key.AllowedOrigins = append(key.AllowedOrigins, origin)
	}
	for _, text := range []string{"203.0.113.10/32", "0.0.0.0/0", "2001:db8::/33", "::/0", "198.51.100.128/25"} {
		key.AllowedIPs = append(key.AllowedIPs, netip.MustParsePrefix(text))
	}
	for _, text := range []string{"/v1/", "GET,HEAD /v2/tokens", "reports:read"} {
		scope, err := apikey.ParseScope(text)
		if err != nil {
			t.Fatal(err)
		}
		key.Scopes = append(key.Scopes, scope)
	}
	key.Notes, key.Disabled = "two\nlines", true
	key.Metadata = apikey.Metadata{{Name: "plan", Value: "größer=besser"}, {Name: "team", Value: ""}}
	key.PreviousHash, key.PreviousHint, key.PreviousUntil = sha256.Sum256(hash[:]), "tk_…aA00", day.Add(24*time.Hour)
	key.ExpiresAt, key.UpdatedAt = day.Add(90*24*time.Hour), day.Add(time.Minute)
	return key
}

func (s *subject) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// want stops the test unless err is target.
func (s *subject) want(err, target error) {
	s.t.Helper()
	if !errors.Is(err, target) {
		s.t.Fatalf("got error %v, want %v", err, target)
	}
}

// same stops the test unless two values are deeply equal.
func same(t rapid.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %s\nwant %s", what, show(got), show(want))
	}
}

func show(v any) string {
	switch v := v.(type) {
	case *apikey.Key:
		if v != nil {
			return fmt.Sprintf("%+v", *v)
		}
	case []*apikey.Key:
		text := fmt.Sprintf("%d keys", len(v))
		for _, key := range v {
			text += "\n\t" + show(key)
		}
		return text
	case *store.User:
		if v != nil {
			return fmt.Sprintf("%+v", *v)
		}
	case []*store.Event:
		text := fmt.Sprintf("%d events", len(v))
		for _, event := range v {
			text += fmt.Sprintf("\n\t%+v", *event)
		}
		return text
	}
	return fmt.Sprintf("%+v", v)
}

func ids(keys []*apikey.Key) []apikey.KeyID {
	var ids []apikey.KeyID
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return ids
}

func background() context.Context { return context.Background() }
