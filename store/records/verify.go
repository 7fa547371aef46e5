package records

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// Report says how many records a store holds.
type Report struct {
	Users, Keys, Sessions uint64
	Invitations, Events   uint64
}

// Verify reads all records: that each is whole, that each is found by its index
// entries and each index entry leads to its record, and that all owners exist.
func (s *Store) Verify(ctx context.Context) (Report, error) {
	var report Report
	err := s.engine.View(ctx, func(tx Tx) (err error) {
		report, err = s.verify(ctx, tx)
		return err
	})
	return report, failed("verifying store", err)
}

func (s *Store) verify(ctx context.Context, tx Tx) (report Report, err error) {
	v := &verifier{ctx: ctx, tx: tx}
	v.users()
	v.keys()
	v.sessions()
	if !s.first {
		v.invitations()
		v.events()
		report.Invitations, report.Events = v.count(InvitationsBucket), v.count(EventsBucket)
	}
	report.Users, report.Keys, report.Sessions = v.count(UsersBucket), v.count(KeysBucket), v.count(SessionsBucket)
	return report, v.err
}

// verifier compares records and index entries until the first error.
//
// That all entries of an index lead to a record follows from the numbers: each
// record has entries of its own, and there are no more than that.
type verifier struct {
	ctx context.Context
	tx  Tx
	err error
}

func (v *verifier) each(bucket string, fn func(key, value []byte) error) {
	if v.err == nil {
		v.err = scan(v.ctx, v.tx, bucket, nil, fn)
	}
}

func (v *verifier) count(bucket string) uint64 {
	if v.err != nil {
		return 0
	}
	var n uint64
	n, v.err = v.tx.Count(bucket)
	return n
}

func (v *verifier) counted(bucket string, want uint64) {
	if n := v.count(bucket); v.err == nil && n != want {
		v.err = damaged("%d entries in %q, expected %d", n, bucket, want)
	}
}

// has checks that an index has an entry with this value.
func (v *verifier) has(bucket string, key, value []byte) error {
	entry, err := v.tx.Get(bucket, key)
	if err == nil && (entry == nil || !bytes.Equal(entry, value)) {
		err = damaged("an entry of %q is missing or leads elsewhere", bucket)
	}
	return err
}

func (v *verifier) hasUser(id apikey.UserID) error {
	user, err := v.tx.Get(UsersBucket, idKey(id))
	if err == nil && user == nil {
		err = damaged("user %d does not exist", id)
	}
	return err
}

func (v *verifier) users() {
	logins := uint64(0)
	v.each(UsersBucket, func(place, _ []byte) error {
		id, err := idAt[apikey.UserID](place)
		if err != nil {
			return err
		}
		user, err := loadUser(v.tx, id)
		if err != nil {
			return err
		}
		for _, login := range loginsOf(user) {
			logins++
			if err := v.has(LoginsBucket, []byte(login.text), place); err != nil {
				return fmt.Errorf("user %d: %w", id, err)
			}
		}
		return nil
	})
	v.counted(LoginsBucket, logins)
}

func (v *verifier) keys() {
	hashes := uint64(0)
	if v.err == nil {
		v.err = eachKey(v.ctx, v.tx, func(key *apikey.Key) error {
			hashes += uint64(len(hashesOf(key)))
			return v.key(key)
		})
	}
	keys := v.count(KeysBucket)
	v.counted(HashesBucket, hashes)
	v.counted(OwnersBucket, keys)
	v.each(LastUsedBucket, func(place, _ []byte) error {
		id, err := idAt[apikey.KeyID](place)
		if err != nil {
			return err
		}
		record, err := v.tx.Get(KeysBucket, place)
		if err == nil && record == nil {
			err = damaged("key %d was used and does not exist", id)
		}
		return err
	})
}

func (v *verifier) key(key *apikey.Key) error {
	err := v.hasUser(key.Owner)
	for _, hash := range hashesOf(key) {
		if err == nil {
			err = v.has(HashesBucket, hash[:], idKey(key.ID))
		}
	}
	if err == nil {
		err = v.has(OwnersBucket, appendID(idKey(key.Owner), key.ID), nil)
	}
	if err != nil {
		return fmt.Errorf("key %d: %w", key.ID, err)
	}
	return nil
}

func (v *verifier) sessions() {
	v.each(SessionsBucket, func(place, _ []byte) error {
		var id store.SessionID
		if len(place) != len(id) {
			return damaged("a session's id of %d bytes", len(place))
		}
		copy(id[:], place)
		session, err := loadSession(v.tx, id)
		if err != nil {
			return err
		}
		err = v.hasUser(session.User)
		if err == nil {
			err = v.has(SignedInBucket, append(idKey(session.User), id[:]...), nil)
		}
		if err == nil {
			err = v.has(EndsBucket, append(endKey(session.ExpiresAt), id[:]...), nil)
		}
		if err != nil {
			return fmt.Errorf("a session: %w", err)
		}
		return nil
	})
	sessions := v.count(SessionsBucket)
	v.counted(SignedInBucket, sessions)
	v.counted(EndsBucket, sessions)
}

func (v *verifier) invitations() {
	if v.err == nil {
		v.err = eachInvitation(v.ctx, v.tx, func(*store.Invitation) error { return nil })
	}
}

// events also checks that no id is above the last one that was given, since it
// would be given again.
func (v *verifier) events() {
	if v.err != nil {
		return
	}
	last, err := v.tx.Sequence(EventsBucket)
	if err == nil {
		err = eachEvent(v.ctx, v.tx, func(event *store.Event) error {
			if event.ID > last {
				return damaged("event %d is above the last id %d", event.ID, last)
			}
			return nil
		})
	}
	v.err = err
}
