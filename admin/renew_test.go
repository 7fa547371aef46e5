package admin

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

// watchedStore is a real store that tells of two calls.
type watchedStore struct {
	Store
	found    func() // after a user was read
	changing func() // before a hash is set
}

func (s *watchedStore) FindUser(ctx context.Context, login string) (*store.User, error) {
	user, err := s.Store.FindUser(ctx, login)
	s.found()
	return user, err
}

func (s *watchedStore) SetPasswordHash(ctx context.Context, id apikey.UserID, old, hash string, keep *store.SessionID, by store.Actor) error {
	s.changing()
	return s.Store.SetPasswordHash(ctx, id, old, hash, keep, by)
}

func nothingHappens() {}

// The renewal of a hash must never bring back a password that was changed
// while the old one was being checked.
func TestRenewalKeepsANewPassword(t *testing.T) {
	file, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	watched := &watchedStore{Store: file, found: nothingHappens, changing: nothingHappens}
	cheap, err := New(Options{Store: watched, Passwords: testCost})
	if err != nil {
		t.Fatal(err)
	}
	dearer, err := New(Options{Store: watched, Passwords: PasswordCost{MemoryKiB: 16, Passes: 1, Parallelism: 1}})
	if err != nil {
		t.Fatal(err)
	}
	const oldPassword, newPassword = "the old password", "the new password"
	if _, err := cheap.service.addUser(t.Context(), operatorActor, NewUser{Name: "ada", Password: oldPassword}); err != nil {
		t.Fatal(err)
	}

	changes := 0
	watched.changing = func() {
		changes++
		if cheap.service.changing.TryLock() && dearer.service.changing.TryLock() {
			t.Error("a hash is set without holding off others who would")
		}
	}
	watched.found = func() {
		watched.found = nothingHappens
		if err := cheap.service.setPassword(t.Context(), operatorActor, "ada", newPassword); err != nil {
			t.Error(err)
		}
	}
	if _, err := dearer.service.login(t.Context(), client{}, "ada", oldPassword); err == nil {
		t.Error("an old password opened a session after it was changed")
	}
	if changes != 1 {
		t.Errorf("the hash was set %d times, want once", changes)
	}
	if _, err := dearer.service.login(t.Context(), client{}, "ada", newPassword); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if changes != 2 {
		t.Errorf("the hash was set %d times, want a renewal too", changes)
	}
}
