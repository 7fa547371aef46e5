package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
)

// CreateSession implements [store.Sessions].
func (s *Store) CreateSession(ctx context.Context, session *store.Session) error {
	created := *session
	record := encodeSession(&created)
	err := s.file.Update(ctx, func(tx *boltfile.Tx) error {
		user, err := tx.Get(usersBucket, idKey(created.User))
		if err != nil {
			return err
		}
		if user == nil {
			return fmt.Errorf("user %d: %w", created.User, store.ErrNotFound)
		}
		taken, err := tx.Get(sessionsBucket, created.ID[:])
		if err != nil {
			return err
		}
		if taken != nil {
			return store.ErrExists
		}
		if err := tx.Put(sessionsBucket, created.ID[:], record); err != nil {
			return err
		}
		if err := tx.Put(signedInBucket, append(idKey(created.User), created.ID[:]...), nil); err != nil {
			return err
		}
		return tx.Put(endsBucket, append(endKey(created.ExpiresAt), created.ID[:]...), nil)
	})
	return failed("creating session", err)
}

const signBit = 1 << 63

// endKey returns the end of a session so that ends sort by time.
func endKey(end time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(end.UnixMicro())^signBit)
}

func endAt(entry []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(entry) ^ signBit))
}

// sessionAt reads the session id that stands behind eight bytes of an index's
// key.
func sessionAt(entry []byte) (store.SessionID, error) {
	var id store.SessionID
	if len(entry) != 8+len(id) {
		return id, damaged("an index entry of %d bytes", len(entry))
	}
	copy(id[:], entry[8:])
	return id, nil
}

// FindSession implements [store.Sessions].
func (s *Store) FindSession(ctx context.Context, id store.SessionID) (*store.Session, error) {
	var session *store.Session
	err := s.file.View(ctx, func(tx *boltfile.Tx) (err error) {
		session, err = loadSession(tx, id)
		return err
	})
	if err != nil {
		return nil, failed("finding session", err)
	}
	return session, nil
}

// loadSession reads a session, or returns ErrNotFound.
func loadSession(tx *boltfile.Tx, id store.SessionID) (*store.Session, error) {
	record, err := tx.Get(sessionsBucket, id[:])
	if err != nil {
		return nil, err
	}
	if record == nil {
		return nil, store.ErrNotFound
	}
	session, err := decodeSession(record)
	if errors.Is(err, ErrNewer) {
		return nil, fmt.Errorf("a session: %w", err)
	}
	if err != nil {
		return nil, damaged("a session: %w", err)
	}
	session.ID = id
	return session, nil
}

// DeleteSession implements [store.Sessions].
func (s *Store) DeleteSession(ctx context.Context, id store.SessionID) error {
	err := s.file.Update(ctx, func(tx *boltfile.Tx) error {
		err := removeSession(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return failed("deleting session", err)
}

// removeSession removes a session and its index entries, or returns
// ErrNotFound.
func removeSession(tx *boltfile.Tx, id store.SessionID) error {
	session, err := loadSession(tx, id)
	if err != nil {
		return err
	}
	if err := tx.Delete(signedInBucket, append(idKey(session.User), id[:]...)); err != nil {
		return err
	}
	if err := tx.Delete(endsBucket, append(endKey(session.ExpiresAt), id[:]...)); err != nil {
		return err
	}
	return tx.Delete(sessionsBucket, id[:])
}

// removeIndexed removes the session that an index entry names.
func removeIndexed(tx *boltfile.Tx, entry []byte) error {
	id, err := sessionAt(entry)
	if err != nil {
		return err
	}
	err = removeSession(tx, id)
	if errors.Is(err, store.ErrNotFound) {
		return damaged("a session has an index entry and no record")
	}
	return err
}

// errStop ends a scan.
var errStop = errors.New("enough")

// DeleteExpiredSessions implements [store.Sessions].
func (s *Store) DeleteExpiredSessions(ctx context.Context, now time.Time) (int, error) {
	n := 0
	err := s.file.Update(ctx, func(tx *boltfile.Tx) error {
		n = 0 // a change may be tried more than once
		err := scan(ctx, tx, endsBucket, nil, func(entry, _ []byte) error {
			if len(entry) >= 8 && !endAt(entry).Before(now) {
				return errStop
			}
			n++
			return removeIndexed(tx, entry)
		})
		if errors.Is(err, errStop) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, failed("deleting expired sessions", err)
	}
	return n, nil
}
