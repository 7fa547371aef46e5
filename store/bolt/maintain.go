package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
)

// Backup writes a copy of the file as it is at one moment, while the store is
// in use, and returns how many bytes it wrote. [Restore] reads it.
func (s *Store) Backup(ctx context.Context, w io.Writer) (int64, error) {
	n, err := s.file.Backup(ctx, w)
	return n, failed("backing up store", err)
}

// Restore puts a backup in the place of the file at path, in one step: until
// the backup was read to its end and verified, the file stays as it is. A file
// that is open is not replaced.
func Restore(ctx context.Context, path string, backup io.Reader, o Options) error {
	return failed("restoring store", boltfile.Restore(ctx, path, backup, o.file()))
}

// Compact writes the file at path anew without the space that deleted records
// left, in one step, and returns its size in bytes before and after. The file
// must not be open.
func Compact(ctx context.Context, path string, o Options) (before, after int64, err error) {
	before, after, err = boltfile.Compact(ctx, path, o.file())
	return before, after, failed("compacting store", err)
}

// Report says what a file holds.
type Report struct {
	Bytes                 int64
	Users, Keys, Sessions uint64
	Invitations, Events   uint64
}

// Verify reads all of the file at path, which it does not change: that every
// record is whole, that each is found by its index entries and each index
// entry leads to its record, and that all owners exist. The file must not be
// open for changes.
func Verify(ctx context.Context, path string, o Options) (Report, error) {
	o.ReadOnly = true
	s, err := Open(ctx, path, o)
	if err != nil {
		return Report{}, fmt.Errorf("verifying: %w", err)
	}
	report, err := s.verify(ctx)
	if err := errors.Join(err, s.Close()); err != nil {
		return Report{}, failed("verifying store", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, failed("verifying store", err)
	}
	report.Bytes = info.Size()
	return report, nil
}

func (s *Store) verify(ctx context.Context) (Report, error) {
	var report Report
	err := s.file.View(ctx, func(tx *boltfile.Tx) error {
		v := &verifier{ctx: ctx, tx: tx}
		v.users()
		v.keys()
		v.sessions()
		if !s.first {
			v.invitations()
			v.events()
			report.Invitations, report.Events = v.count(invitationsBucket), v.count(eventsBucket)
		}
		report.Users, report.Keys, report.Sessions = v.count(usersBucket), v.count(keysBucket), v.count(sessionsBucket)
		return v.err
	})
	return report, err
}

// verifier compares records and index entries until the first error.
//
// That all entries of an index lead to a record follows from the numbers: each
// record has entries of its own, and there are no more than that.
type verifier struct {
	ctx context.Context
	tx  *boltfile.Tx
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
	user, err := v.tx.Get(usersBucket, idKey(id))
	if err == nil && user == nil {
		err = damaged("user %d does not exist", id)
	}
	return err
}

func (v *verifier) users() {
	logins := uint64(0)
	v.each(usersBucket, func(place, _ []byte) error {
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
			if err := v.has(loginsBucket, []byte(login.text), place); err != nil {
				return fmt.Errorf("user %d: %w", id, err)
			}
		}
		return nil
	})
	v.counted(loginsBucket, logins)
}

func (v *verifier) keys() {
	hashes := uint64(0)
	if v.err == nil {
		v.err = eachKey(v.ctx, v.tx, func(key *apikey.Key) error {
			hashes += uint64(len(hashesOf(key)))
			return v.key(key)
		})
	}
	keys := v.count(keysBucket)
	v.counted(hashesBucket, hashes)
	v.counted(ownersBucket, keys)
	v.each(lastUsedBucket, func(place, _ []byte) error {
		id, err := idAt[apikey.KeyID](place)
		if err != nil {
			return err
		}
		record, err := v.tx.Get(keysBucket, place)
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
			err = v.has(hashesBucket, hash[:], idKey(key.ID))
		}
	}
	if err == nil {
		err = v.has(ownersBucket, appendID(idKey(key.Owner), key.ID), nil)
	}
	if err != nil {
		return fmt.Errorf("key %d: %w", key.ID, err)
	}
	return nil
}

func (v *verifier) sessions() {
	v.each(sessionsBucket, func(place, _ []byte) error {
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
			err = v.has(signedInBucket, append(idKey(session.User), id[:]...), nil)
		}
		if err == nil {
			err = v.has(endsBucket, append(endKey(session.ExpiresAt), id[:]...), nil)
		}
		if err != nil {
			return fmt.Errorf("a session: %w", err)
		}
		return nil
	})
	sessions := v.count(sessionsBucket)
	v.counted(signedInBucket, sessions)
	v.counted(endsBucket, sessions)
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
	last, err := v.tx.Sequence(eventsBucket)
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
