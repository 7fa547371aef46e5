package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// invitation makes an invitation for this name.
func (s *subject) invitation(name string) *store.Invitation {
	s.t.Helper()
	invitation := &store.Invitation{
		ID: store.InvitationID(s.hash()), Name: name, Email: name + "@example.io", Role: store.RoleViewer,
		CreatedAt: day, ExpiresAt: day.Add(time.Hour), InvitedBy: "ada",
	}
	s.check(s.CreateInvitation(background(), invitation, by))
	return invitation
}

func (s *subject) setRole(id apikey.UserID, role store.Role) error {
	_, err := s.UpdateUser(background(), id, func(user *store.User) error {
		user.Role = role
		return nil
	}, by)
	return err
}

var roleTests = []test{
	{"the first user is an owner, and every other what CreateUser was given", func(t *testing.T, s *subject) {
		for i, role := range []store.Role{store.RoleMember, store.RoleMember, store.RoleViewer, store.RoleAdmin, store.RoleOwner} {
			user, err := s.CreateUser(background(), &store.User{Name: "user" + decimal(int64(i)), Role: role}, by)
			s.check(err)
			if i == 0 {
				role = store.RoleOwner
			}
			s.reopen()
			found, err := s.User(background(), user.ID)
			s.check(err)
			same(t, "role", found.Role, role)
		}
		_, err := s.CreateUser(background(), &store.User{Name: "odd", Role: 77}, by)
		if err == nil {
			t.Error("an unknown role was kept")
		}
	}},
	{"UpdateUser changes the address and role alone", func(t *testing.T, s *subject) {
		s.user("ada")
		bob, err := s.CreateUser(background(), &store.User{Name: "bob", Email: "bob@example.io", PasswordHash: "$argon2id$bob", CreatedAt: day}, by)
		s.check(err)
		session := s.session(bob, time.Hour)
		updated, err := s.UpdateUser(background(), bob.ID, func(user *store.User) error {
			user.Email, user.Role = "robert@example.io", store.RoleAdmin
			return nil
		}, by)
		s.check(err)
		want := *bob
		want.Email, want.Role = "robert@example.io", store.RoleAdmin
		same(t, "updated", updated, &want)
		s.reopen()
		for _, login := range []string{"bob", "robert@example.io"} {
			found, err := s.FindUser(background(), login)
			s.check(err)
			same(t, "found", found, &want)
		}
		_, err = s.FindUser(background(), "bob@example.io")
		s.want(err, store.ErrNotFound)
		_, err = s.FindSession(background(), session.ID)
		s.check(err)
		for name, change := range map[string]func(*store.User){
			"id": func(u *store.User) { u.ID++ }, "name": func(u *store.User) { u.Name = "rob" }, "password": func(u *store.User) { u.PasswordHash = "" },
			"creation": func(u *store.User) { u.CreatedAt = time.Time{} }, "role": func(u *store.User) { u.Role = 9 }, "address": func(u *store.User) { u.Email = "x" },
		} {
			_, err := s.UpdateUser(background(), bob.ID, func(user *store.User) error {
				change(user)
				return nil
			}, by)
			var field *apikey.FieldError
			if !errors.As(err, &field) {
				t.Errorf("%s: got %v, want a field", name, err)
			}
		}
		_, err = s.UpdateUser(background(), bob.ID, func(*store.User) error { return errRefused }, by)
		s.want(err, errRefused)
		_, err = s.UpdateUser(background(), 99, func(*store.User) error { return nil }, by)
		s.want(err, store.ErrNotFound)
		_, err = s.UpdateUser(background(), bob.ID, func(user *store.User) error {
			user.Email = ""
			return nil
		}, by)
		s.check(err)
		_, err = s.FindUser(background(), "robert@example.io")
		s.want(err, store.ErrNotFound)
	}},
	{"UpdateUser with an address that is taken is ErrExists and changes nothing", func(t *testing.T, s *subject) {
		_, err := s.CreateUser(background(), &store.User{Name: "ada@example.io", Email: "ada@example.com"}, by)
		s.check(err)
		bob := s.user("bob")
		for _, email := range []string{"ada@example.io", "ada@example.com"} {
			_, err := s.UpdateUser(background(), bob.ID, func(user *store.User) error {
				user.Email = email
				return nil
			}, by)
			s.want(err, store.ErrExists)
		}
		found, err := s.FindUser(background(), "bob")
		s.check(err)
		same(t, "user", found, bob)
	}},
	{"an owner is always left", func(t *testing.T, s *subject) {
		ada, bob := s.user("ada"), s.user("bob")
		for _, role := range []store.Role{store.RoleAdmin, store.RoleMember} {
			s.want(s.setRole(ada.ID, role), store.ErrLastOwner)
		}
		_, err := s.DeleteUser(background(), ada.ID, by)
		s.want(err, store.ErrLastOwner)
		s.check(s.setRole(bob.ID, store.RoleOwner))
		var kept [2]error
		together(2, func(worker int) { kept[worker] = s.setRole([]apikey.UserID{ada.ID, bob.ID}[worker], store.RoleMember) })
		if (kept[0] == nil) == (kept[1] == nil) || !errors.Is(errors.Join(kept[:]...), store.ErrLastOwner) {
			t.Errorf("both owners stepped down at once: %v", kept)
		}
	}},
	{"DeleteUser removes a user who owns no key, with all sessions", func(t *testing.T, s *subject) {
		s.user("ada")
		bob, err := s.CreateUser(background(), &store.User{Name: "bob", Email: "bob@example.io"}, by)
		s.check(err)
		session, key := s.session(bob, time.Hour), s.key(bob, "bob's")
		_, err = s.DeleteUser(background(), bob.ID, by)
		s.want(err, store.ErrInUse)
		_, err = s.FindSession(background(), session.ID)
		s.check(err)
		_, err = s.DeleteKey(background(), 0, key.ID, by)
		s.check(err)
		deleted, err := s.DeleteUser(background(), bob.ID, by)
		s.check(err)
		same(t, "deleted", deleted, bob)
		for range 2 {
			_, err = s.User(background(), bob.ID)
			s.want(err, store.ErrNotFound)
			for _, login := range []string{"bob", "bob@example.io"} {
				_, err = s.FindUser(background(), login)
				s.want(err, store.ErrNotFound)
			}
			_, err = s.FindSession(background(), session.ID)
			s.want(err, store.ErrNotFound)
			_, err = s.DeleteUser(background(), bob.ID, by)
			s.want(err, store.ErrNotFound)
			s.reopen()
		}
		if again := s.user("bob"); again.ID <= bob.ID {
			t.Errorf("the id %d was used again", again.ID)
		}
	}},
	{"SetPasswordHash compares with the old hash and may keep one session", func(t *testing.T, s *subject) {
		user := s.user("ada")
		kept, ended := s.session(user, time.Hour), s.session(user, time.Hour)
		events := len(s.events())
		s.want(s.SetPasswordHash(background(), user.ID, "$argon2id$other", "$argon2id$new", nil, by), store.ErrConflict)
		_, err := s.FindSession(background(), ended.ID)
		s.check(err)
		same(t, "events", len(s.events()), events)
		keep := kept.ID
		s.check(s.SetPasswordHash(background(), user.ID, "$argon2id$ada", "$argon2id$new", &keep, by))
		_, err = s.FindSession(background(), kept.ID)
		s.check(err)
		_, err = s.FindSession(background(), ended.ID)
		s.want(err, store.ErrNotFound)
		found, err := s.User(background(), user.ID)
		s.check(err)
		same(t, "hash", found.PasswordHash, "$argon2id$new")
	}},
}

var invitationTests = []test{
	{"an invitation is found with all that CreateInvitation was given", func(t *testing.T, s *subject) {
		first := s.invitation("bob")
		second := &store.Invitation{ID: store.InvitationID(s.hash()), Name: "eve", CreatedAt: day.Add(time.Second), ExpiresAt: day}
		s.check(s.CreateInvitation(background(), second, by))
		for range 2 {
			found, err := s.FindInvitation(background(), first.ID)
			s.check(err)
			same(t, "found", found, first)
			all, err := s.ListInvitations(background())
			s.check(err)
			same(t, "all", all, []*store.Invitation{second, first})
			s.reopen()
		}
		_, err := s.FindInvitation(background(), store.InvitationID(s.hash()))
		s.want(err, store.ErrNotFound)
	}},
	{"an invitation is refused for what is taken or not valid", func(t *testing.T, s *subject) {
		_, err := s.CreateUser(background(), &store.User{Name: "ada", Email: "ada@example.io"}, by)
		s.check(err)
		bob := s.invitation("bob")
		for _, invitation := range []*store.Invitation{
			{ID: store.InvitationID(s.hash()), Name: "ada"}, {ID: store.InvitationID(s.hash()), Name: "ada@example.io"},
			{ID: store.InvitationID(s.hash()), Name: "eve", Email: "ada@example.io"}, {ID: bob.ID, Name: "eve"},
		} {
			s.want(s.CreateInvitation(background(), invitation, by), store.ErrExists)
		}
		for _, invitation := range []*store.Invitation{{Name: "Eve"}, {Name: "eve", Email: "x"}, {Name: "eve", Role: 9}} {
			invitation.ID = store.InvitationID(s.hash())
			if err := s.CreateInvitation(background(), invitation, by); err == nil {
				t.Errorf("%+v was kept", invitation)
			}
		}
		all, err := s.ListInvitations(background())
		s.check(err)
		same(t, "all", all, []*store.Invitation{bob})
	}},
	{"a later invitation takes the place of an earlier one, and ended ones go", func(t *testing.T, s *subject) {
		first, other := s.invitation("bob"), s.invitation("eve")
		second := s.invitation("bob")
		_, err := s.FindInvitation(background(), first.ID)
		s.want(err, store.ErrNotFound)
		late := by
		late.At = day.Add(2 * time.Hour)
		s.check(s.CreateInvitation(background(), &store.Invitation{ID: store.InvitationID(s.hash()), Name: "joe", ExpiresAt: day.Add(3 * time.Hour)}, late))
		for _, id := range []store.InvitationID{second.ID, other.ID} {
			_, err := s.FindInvitation(background(), id)
			s.want(err, store.ErrNotFound)
		}
	}},
	{"AcceptInvitation makes the user, once, until the invitation ends", func(t *testing.T, s *subject) {
		s.user("ada")
		invitation := s.invitation("bob")
		late := by
		late.At = invitation.ExpiresAt
		_, err := s.AcceptInvitation(background(), invitation.ID, "$argon2id$bob", late)
		s.want(err, store.ErrNotFound)
		user, err := s.AcceptInvitation(background(), invitation.ID, "$argon2id$bob", by)
		s.check(err)
		same(t, "user", user, &store.User{
			ID: user.ID, Name: "bob", Email: "bob@example.io", Role: store.RoleViewer, PasswordHash: "$argon2id$bob", CreatedAt: day,
		})
		s.reopen()
		found, err := s.FindUser(background(), "bob@example.io")
		s.check(err)
		same(t, "found", found, user)
		_, err = s.AcceptInvitation(background(), invitation.ID, "$argon2id$bob", by)
		s.want(err, store.ErrNotFound)
		_, err = s.FindInvitation(background(), invitation.ID)
		s.want(err, store.ErrNotFound)
	}},
	{"AcceptInvitation of what was taken meanwhile is ErrExists and keeps it", func(t *testing.T, s *subject) {
		invitation := s.invitation("bob")
		s.user("bob")
		_, err := s.AcceptInvitation(background(), invitation.ID, "$argon2id$bob", by)
		s.want(err, store.ErrExists)
		found, err := s.FindInvitation(background(), invitation.ID)
		s.check(err)
		same(t, "invitation", found, invitation)
	}},
	{"one invitation is accepted once", func(t *testing.T, s *subject) {
		invitation := s.invitation("bob")
		var errs [4]error
		together(4, func(worker int) {
			_, errs[worker] = s.AcceptInvitation(background(), invitation.ID, "$argon2id$bob", by)
		})
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if !errors.Is(err, store.ErrNotFound) {
				t.Error(err)
			}
		}
		same(t, "accepted", won, 1)
	}},
	{"DeleteInvitation takes an invitation back", func(t *testing.T, s *subject) {
		invitation := s.invitation("bob")
		deleted, err := s.DeleteInvitation(background(), invitation.ID, by)
		s.check(err)
		same(t, "deleted", deleted, invitation)
		_, err = s.DeleteInvitation(background(), invitation.ID, by)
		s.want(err, store.ErrNotFound)
		_, err = s.AcceptInvitation(background(), invitation.ID, "$argon2id$bob", by)
		s.want(err, store.ErrNotFound)
	}},
}
