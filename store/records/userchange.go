package records

import (
	"context"
	"fmt"
	"slices"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// UpdateUser implements [store.Users].
func (s *Store) UpdateUser(ctx context.Context, id apikey.UserID, change func(*store.User) error, by store.Actor) (*store.User, error) {
	by = by.Stored()
	var updated *store.User
	err := s.engine.Update(ctx, func(tx Tx) error {
		before, err := loadUser(tx, id)
		if err != nil {
			return err
		}
		after, event, err := store.ChangeUser(before, change, by)
		if err != nil {
			return err
		}
		updated = after
		if event == nil {
			return nil
		}
		if before.Role == store.RoleOwner && after.Role != store.RoleOwner {
			if err := anotherOwner(ctx, tx, id); err != nil {
				return err
			}
		}
		if err := replaceUser(tx, before, after); err != nil {
			return err
		}
		return s.note(tx, event)
	})
	if err != nil {
		return nil, failed(fmt.Sprintf("changing user %d", id), err)
	}
	return updated, nil
}

// anotherOwner returns ErrLastOwner unless an owner other than id exists.
func anotherOwner(ctx context.Context, tx Tx, id apikey.UserID) error {
	found := false
	err := eachUser(ctx, tx, func(user *store.User) error {
		found = found || user.Role == store.RoleOwner && user.ID != id
		return nil
	})
	if err == nil && !found {
		err = &apikey.FieldError{Field: "role", Err: store.ErrLastOwner}
	}
	return err
}

// replaceUser puts a user's address and role in the place of what they were.
func replaceUser(tx Tx, before, after *store.User) error {
	place := idKey(after.ID)
	record, err := tx.Get(UsersBucket, place)
	if err != nil {
		return err
	}
	role, err := valueOf(appendNumber(nil, userRole, roleNumber(after.Role)))
	if err == nil {
		record, err = setField(record, userEmail, []byte(after.Email))
	}
	if err == nil {
		record, err = setField(record, userRole, role)
	}
	if err != nil {
		return unreadable("user", int64(after.ID), err)
	}
	had, has := loginsOf(before), loginsOf(after)
	for _, login := range had {
		if slices.Contains(has, login) {
			continue
		}
		if err := tx.Delete(LoginsBucket, []byte(login.text)); err != nil {
			return err
		}
	}
	for _, login := range has {
		if slices.Contains(had, login) {
			continue
		}
		if err := putLogin(tx, login, place); err != nil {
			return err
		}
	}
	return tx.Put(UsersBucket, place, record)
}

// DeleteUser implements [store.Users].
func (s *Store) DeleteUser(ctx context.Context, id apikey.UserID, by store.Actor) (*store.User, error) {
	by = by.Stored()
	var deleted *store.User
	err := s.engine.Update(ctx, func(tx Tx) (err error) {
		if deleted, err = loadUser(tx, id); err != nil {
			return err
		}
		if deleted.Role == store.RoleOwner {
			if err := anotherOwner(ctx, tx, id); err != nil {
				return err
			}
		}
		place := idKey(id)
		err = tx.Scan(OwnersBucket, place, func(_, _ []byte) error { return store.ErrInUse })
		if err != nil {
			return err
		}
		if _, _, err := endSessions(tx, id, nil); err != nil {
			return err
		}
		for _, login := range loginsOf(deleted) {
			if err := tx.Delete(LoginsBucket, []byte(login.text)); err != nil {
				return err
			}
		}
		if err := tx.Delete(UsersBucket, place); err != nil {
			return err
		}
		return s.note(tx, store.UserEvent(store.ActionDeleteUser, deleted, nil, by))
	})
	if err != nil {
		return nil, failed(fmt.Sprintf("deleting user %d", id), err)
	}
	return deleted, nil
}

// SetPasswordHash implements [store.Users].
func (s *Store) SetPasswordHash(ctx context.Context, id apikey.UserID, old, hash string, keep *store.SessionID, by store.Actor) error {
	by, keep = by.Stored(), clone(keep)
	err := s.engine.Update(ctx, func(tx Tx) error {
		user, err := loadUser(tx, id)
		if err != nil {
			return err
		}
		if old != "" && user.PasswordHash != old {
			return store.ErrConflict
		}
		place := idKey(id)
		record, err := tx.Get(UsersBucket, place)
		if err != nil {
			return err
		}
		changed, err := setField(record, userPasswordHash, []byte(hash))
		if err != nil {
			return unreadable("user", int64(id), err)
		}
		if err := tx.Put(UsersBucket, place, changed); err != nil {
			return err
		}
		ended, kept, err := endSessions(tx, id, keep)
		if err != nil {
			return err
		}
		return s.note(tx, store.PasswordEvent(user, ended, kept, by))
	})
	return failed(fmt.Sprintf("changing the password of user %d", id), err)
}

// clone returns a pointer to a copy: a change may be made after the caller was
// answered.
func clone[T any](v *T) *T {
	if v == nil {
		return nil
	}
	copied := *v
	return &copied
}
