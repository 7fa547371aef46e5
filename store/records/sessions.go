package records

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// CreateSession implements [store.Sessions].
func (s *Store) CreateSession(ctx context.Context, session *store.Session, by store.Actor) error {
	created, by := session.Stored(), by.Stored()
	record := encodeSession(created)
	err := s.engine.Update(ctx, func(tx Tx) error {
		user, err := loadUser(tx, created.User)
		if err != nil {
			return fmt.Errorf("user %d: %w", created.User, err)
		}
		taken, err := tx.Get(SessionsBucket, created.ID[:])
		if err != nil {
			return err
		}
		if taken != nil {
			return store.ErrExists
		}
		if err := tx.Put(SessionsBucket, created.ID[:], record); err != nil {
			return err
		}
		if err := tx.Put(SignedInBucket, append(idKey(created.User), created.ID[:]...), nil); err != nil {
			return err
		}
		if err := tx.Put(EndsBucket, append(endKey(created.ExpiresAt), created.ID[:]...), nil); err != nil {
			return err
		}
		return s.note(tx, store.SessionEvent(store.ActionLogin, user, nil, created, by))
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
	err := s.engine.View(ctx, func(tx Tx) (err error) {
		session, err = loadSession(tx, id)
		return err
	})
	if err != nil {
		return nil, failed("finding session", err)
	}
	return session, nil
}

// loadSession reads a session, or returns ErrNotFound.
func loadSession(tx Tx, id store.SessionID) (*store.Session, error) {
	record, err := tx.Get(SessionsBucket, id[:])
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

// ListSessions implements [store.Sessions].
func (s *Store) ListSessions(ctx context.Context, user apikey.UserID) ([]*store.Session, error) {
	var sessions []*store.Session
	err := s.engine.View(ctx, func(tx Tx) error {
		var prefix []byte
		if user != 0 {
			prefix = idKey(user)
		}
		return scan(ctx, tx, SignedInBucket, prefix, func(entry, _ []byte) error {
			id, err := sessionAt(entry)
			if err != nil {
				return err
			}
			session, err := loadSession(tx, id)
			if errors.Is(err, store.ErrNotFound) {
				return damaged("a session has an index entry and no record")
			}
			sessions = append(sessions, session)
			return err
		})
	})
	if err != nil {
		return nil, failed("listing sessions", err)
	}
	slices.SortFunc(sessions, func(a, b *store.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return sessions, nil
}

// DeleteSession implements [store.Sessions].
func (s *Store) DeleteSession(ctx context.Context, id store.SessionID, by store.Actor) error {
	by = by.Stored()
	err := s.engine.Update(ctx, func(tx Tx) error {
		session, err := loadSession(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		user, err := loadUser(tx, session.User)
		if errors.Is(err, store.ErrNotFound) {
			return damaged("a session's user %d does not exist", session.User)
		}
		if err != nil {
			return err
		}
		if err := removeSession(tx, id); err != nil {
			return err
		}
		return s.note(tx, store.SessionEvent(store.ActionLogout, user, session, nil, by))
	})
	return failed("deleting session", err)
}

// DeleteSessions implements [store.Sessions].
func (s *Store) DeleteSessions(ctx context.Context, user apikey.UserID, keep *store.SessionID, by store.Actor) (int, error) {
	by, keep = by.Stored(), clone(keep)
	ended := 0
	err := s.engine.Update(ctx, func(tx Tx) error {
		of, err := loadUser(tx, user)
		if err != nil {
			return err
		}
		n, kept, err := endSessions(tx, user, keep)
		if ended = n; err != nil || n == 0 {
			return err
		}
		return s.note(tx, store.SessionsEvent(of, n, kept, by))
	})
	if err != nil {
		return 0, failed(fmt.Sprintf("deleting the sessions of user %d", user), err)
	}
	return ended, nil
}

// endSessions removes the sessions of a user but one, and counts them.
func endSessions(tx Tx, user apikey.UserID, keep *store.SessionID) (ended, kept int, err error) {
	err = tx.Scan(SignedInBucket, idKey(user), func(entry, _ []byte) error {
		if id, err := sessionAt(entry); err == nil && keep != nil && id == *keep {
			kept++
			return nil
		}
		ended++
		return removeIndexed(tx, entry)
	})
	return ended, kept, err
}

// TouchSessions implements [store.Sessions].
func (s *Store) TouchSessions(ctx context.Context, seen map[store.SessionID]time.Time) error {
	seen = maps.Clone(seen) // a change may still be made after ctx is done
	err := s.engine.Update(ctx, func(tx Tx) error {
		for id, at := range seen {
			record, err := tx.Get(SessionsBucket, id[:])
			if err != nil {
				return err
			}
			if record == nil {
				continue
			}
			changed, err := SeenAt(record, at)
			if err != nil {
				return err
			}
			if changed == nil {
				continue
			}
			if err := tx.Put(SessionsBucket, id[:], changed); err != nil {
				return err
			}
		}
		return nil
	})
	return failed("writing when sessions were last seen", err)
}

// SeenAt returns the record of a session that was last seen at a time, in whole
// seconds, or nil where the record says that time or a later one.
func SeenAt(record []byte, at time.Time) ([]byte, error) {
	session, err := decodeSession(record)
	at = time.Unix(at.Unix(), 0).UTC()
	if err == nil && !at.After(session.LastSeenAt) {
		return nil, nil
	}
	var changed []byte
	if err == nil {
		var value []byte
		if value, err = valueOf(appendTime(nil, sessionLastSeenAt, at)); err == nil {
			changed, err = setField(record, sessionLastSeenAt, value)
		}
	}
	if errors.Is(err, ErrNewer) {
		return nil, fmt.Errorf("a session: %w", err)
	}
	if err != nil {
		return nil, damaged("a session: %w", err)
	}
	return changed, nil
}

// removeSession removes a session and its index entries, or returns
// ErrNotFound.
func removeSession(tx Tx, id store.SessionID) error {
	session, err := loadSession(tx, id)
	if err != nil {
		return err
	}
	if err := tx.Delete(SignedInBucket, append(idKey(session.User), id[:]...)); err != nil {
		return err
	}
	if err := tx.Delete(EndsBucket, append(endKey(session.ExpiresAt), id[:]...)); err != nil {
		return err
	}
	return tx.Delete(SessionsBucket, id[:])
}

// removeIndexed removes the session that an index entry names.
func removeIndexed(tx Tx, entry []byte) error {
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
	total := 0
	for {
		n := 0
		err := s.engine.Update(ctx, func(tx Tx) error {
			n = 0
			err := scan(ctx, tx, EndsBucket, nil, func(entry, _ []byte) error {
				if len(entry) >= 8 && !endAt(entry).Before(now) || s.expire > 0 && n == s.expire {
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
		if total += n; n == 0 || n != s.expire {
			return total, nil
		}
	}
}
