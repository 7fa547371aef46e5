package records

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tokenkithq/authz/store"
)

// CreateInvitation implements [store.Invitations]. It returns an
// [*apikey.FieldError] for an invitation that is not valid.
func (s *Store) CreateInvitation(ctx context.Context, invitation *store.Invitation, by store.Actor) error {
	if err := invitation.Validate(); err != nil {
		return failed("creating invitation", err)
	}
	created, by := invitation.Stored(), by.Stored()
	err := s.engine.Update(ctx, func(tx Tx) error {
		for _, login := range loginsOf(&store.User{Name: created.Name, Email: created.Email}) {
			if err := loginFree(tx, login); err != nil {
				return err
			}
		}
		err := eachInvitation(ctx, tx, func(other *store.Invitation) error {
			switch {
			case other.ID == created.ID:
				return store.ErrExists
			case other.Name == created.Name || other.ExpiresAt.Before(by.At):
				return tx.Delete(InvitationsBucket, other.ID[:])
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := tx.Put(InvitationsBucket, created.ID[:], encodeInvitation(created)); err != nil {
			return err
		}
		return s.note(tx, store.InvitationEvent(store.ActionInvite, nil, created, by))
	})
	return failed("creating invitation", err)
}

// FindInvitation implements [store.Invitations].
func (s *Store) FindInvitation(ctx context.Context, id store.InvitationID) (*store.Invitation, error) {
	var invitation *store.Invitation
	err := s.engine.View(ctx, func(tx Tx) (err error) {
		if s.first {
			return store.ErrNotFound
		}
		invitation, err = loadInvitation(tx, id)
		return err
	})
	if err != nil {
		return nil, failed("finding invitation", err)
	}
	return invitation, nil
}

// loadInvitation reads an invitation, or returns ErrNotFound.
func loadInvitation(tx Tx, id store.InvitationID) (*store.Invitation, error) {
	record, err := tx.Get(InvitationsBucket, id[:])
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, store.ErrNotFound
	}
	invitation, err := decodeInvitation(record)
	if errors.Is(err, ErrNewer) {
		return nil, fmt.Errorf("an invitation: %w", err)
	}
	if err != nil {
		return nil, damaged("an invitation: %w", err)
	}
	invitation.ID = id
	return invitation, nil
}

// eachInvitation calls fn with all invitations in no order of meaning.
func eachInvitation(ctx context.Context, tx Tx, fn func(*store.Invitation) error) error {
	return scan(ctx, tx, InvitationsBucket, nil, func(place, _ []byte) error {
		var id store.InvitationID
		if len(place) != len(id) {
			return damaged("an invitation's id of %d bytes", len(place))
		}
		copy(id[:], place)
		invitation, err := loadInvitation(tx, id)
		if err != nil {
			return err
		}
		return fn(invitation)
	})
}

// ListInvitations implements [store.Invitations].
func (s *Store) ListInvitations(ctx context.Context) ([]*store.Invitation, error) {
	var invitations []*store.Invitation
	err := s.engine.View(ctx, func(tx Tx) error {
		if s.first {
			return nil
		}
		return eachInvitation(ctx, tx, func(invitation *store.Invitation) error {
			invitations = append(invitations, invitation)
			return nil
		})
	})
	if err != nil {
		return nil, failed("listing invitations", err)
	}
	slices.SortFunc(invitations, func(a, b *store.Invitation) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return invitations, nil
}

// DeleteInvitation implements [store.Invitations].
func (s *Store) DeleteInvitation(ctx context.Context, id store.InvitationID, by store.Actor) (*store.Invitation, error) {
	by = by.Stored()
	var deleted *store.Invitation
	err := s.engine.Update(ctx, func(tx Tx) (err error) {
		if deleted, err = loadInvitation(tx, id); err != nil {
			return err
		}
		if err := tx.Delete(InvitationsBucket, id[:]); err != nil {
			return err
		}
		return s.note(tx, store.InvitationEvent(store.ActionUninvite, deleted, nil, by))
	})
	if err != nil {
		return nil, failed("deleting invitation", err)
	}
	return deleted, nil
}

// AcceptInvitation implements [store.Invitations].
func (s *Store) AcceptInvitation(ctx context.Context, id store.InvitationID, passwordHash string, by store.Actor) (*store.User, error) {
	by = by.Stored()
	var user *store.User
	err := s.engine.Update(ctx, func(tx Tx) error {
		invitation, err := loadInvitation(tx, id)
		if err != nil {
			return err
		}
		if !by.At.Before(invitation.ExpiresAt) {
			return store.ErrNotFound
		}
		user = &store.User{
			Name: invitation.Name, Email: invitation.Email, Role: invitation.Role, PasswordHash: passwordHash, CreatedAt: by.At,
		}
		if err := createUser(tx, user); err != nil {
			return err
		}
		if err := tx.Delete(InvitationsBucket, id[:]); err != nil {
			return err
		}
		return s.note(tx, store.JoinEvent(user, by))
	})
	if err != nil {
		return nil, failed("accepting invitation", err)
	}
	return user, nil
}
