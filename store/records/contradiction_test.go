package records

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

var by = store.Actor{Kind: store.ActorOperator, At: time.UnixMicro(1)}

// Records that contradict each other, though each passes its checksum, are
// damage wherever they are met, and never a key or user that does not exist.
func TestContradictions(t *testing.T) {
	put := func(bucket string, key, value []byte) func(Tx) error {
		return func(tx Tx) error { return tx.Put(bucket, key, value) }
	}
	remove := func(bucket string, key []byte) func(Tx) error {
		return func(tx Tx) error { return tx.Delete(bucket, key) }
	}
	one, two := apikey.Hash{1}, apikey.Hash{2}
	session := store.SessionID{1}
	end := endKey(time.UnixMicro(5))
	findKey := func(s *Store) error {
		_, err := s.FindKey(context.Background(), one)
		return err
	}
	listKeys := func(s *Store) error {
		_, err := s.ListKeys(context.Background(), 1)
		return err
	}
	findUser := func(s *Store) error {
		_, err := s.FindUser(context.Background(), "ada")
		return err
	}
	deleteKey := func(s *Store) error {
		_, err := s.DeleteKey(context.Background(), 0, 1, by)
		return err
	}
	setPassword := func(s *Store) error { return s.SetPasswordHash(context.Background(), 1, "", "new", nil, by) }
	previous := apikey.Hash{3}
	findPrevious := func(s *Store) error {
		_, err := s.FindKey(context.Background(), previous)
		return err
	}
	findInvitation := func(s *Store) error {
		_, err := s.FindInvitation(context.Background(), store.InvitationID(session))
		return err
	}
	listEvents := func(s *Store) error {
		_, err := s.ListEvents(context.Background(), store.EventFilter{})
		return err
	}
	findSession := func(s *Store) error {
		_, err := s.FindSession(context.Background(), session)
		return err
	}
	expire := func(s *Store) error {
		_, err := s.DeleteExpiredSessions(context.Background(), time.Unix(1, 0))
		return err
	}
	later := appendField(encodeKey(&apikey.Key{Hash: one, Name: "a", Owner: 1}), 1000, []byte{1})
	for _, c := range []struct {
		name   string
		change func(Tx) error
		meets  func(*Store) error // nil: only Verify does
		want   error              // nil: ErrDamaged
	}{
		{"a hash leads to another key", put(HashesBucket, one[:], idKey[apikey.KeyID](2)), findKey, nil},
		{"a hash leads nowhere", put(HashesBucket, one[:], idKey[apikey.KeyID](9)), findKey, nil},
		{"a hash leads to no id", put(HashesBucket, one[:], []byte{1}), findKey, nil},
		{"a hash leads to id zero", put(HashesBucket, one[:], make([]byte, 8)), findKey, nil},
		{"a key's record is gone", remove(KeysBucket, idKey[apikey.KeyID](1)), findKey, nil},
		{"a key's record is malformed", put(KeysBucket, idKey[apikey.KeyID](1), []byte{recordFormat, 2, 99}), findKey, nil},
		{"a key's record is malformed, deleting", put(KeysBucket, idKey[apikey.KeyID](1), []byte{recordFormat, 2, 99}), deleteKey, nil},
		{"a key's record is newer", put(KeysBucket, idKey[apikey.KeyID](1), later), findKey, ErrNewer},
		{"a key's last use is malformed", put(LastUsedBucket, idKey[apikey.KeyID](1), []byte{1}), findKey, nil},
		{"an owner's key is gone", remove(KeysBucket, idKey[apikey.KeyID](1)), listKeys, nil},
		{"an owner's key is another's", put(OwnersBucket, appendID(idKey[apikey.UserID](1), apikey.KeyID(2)), nil), listKeys, nil},
		{"a key has no hash entry", remove(HashesBucket, one[:]), nil, nil},
		{"a key has no owner entry", remove(OwnersBucket, appendID(idKey[apikey.UserID](1), apikey.KeyID(1))), nil, nil},
		{"a hash entry too many", put(HashesBucket, two[:3], idKey[apikey.KeyID](1)), nil, nil},
		{"an owner entry too many", put(OwnersBucket, appendID(idKey[apikey.UserID](2), apikey.KeyID(1)), nil), nil, nil},
		{"a key without its owner", remove(UsersBucket, idKey[apikey.UserID](1)), nil, nil},
		{"a use of no key", put(LastUsedBucket, idKey[apikey.KeyID](9), make([]byte, 8)), nil, nil},
		{"a name leads to another user", put(LoginsBucket, []byte("ada"), idKey[apikey.UserID](2)), findUser, nil},
		{"a name leads nowhere", put(LoginsBucket, []byte("ada"), idKey[apikey.UserID](9)), findUser, nil},
		{"a user's record is malformed", put(UsersBucket, idKey[apikey.UserID](1), []byte{recordFormat, 2}), findUser, nil},
		{"a user's record is malformed, changing it", put(UsersBucket, idKey[apikey.UserID](1), []byte{recordFormat, 2}), setPassword, nil},
		{"a user's record is newer, changing it", put(UsersBucket, idKey[apikey.UserID](1), []byte{9}), setPassword, ErrNewer},
		{"a user has no name entry", remove(LoginsBucket, []byte("ada")), nil, nil},
		{"a user has no address entry", remove(LoginsBucket, []byte("ada@example.io")), nil, nil},
		{"a login too many", put(LoginsBucket, []byte("eve"), idKey[apikey.UserID](1)), nil, nil},
		{"a session's record is malformed", put(SessionsBucket, session[:], []byte{recordFormat, 2}), findSession, nil},
		{"a session's record is newer", put(SessionsBucket, session[:], []byte{9}), findSession, ErrNewer},
		{"a user's session is gone", remove(SessionsBucket, session[:]), setPassword, nil},
		{"an ended session is gone", remove(SessionsBucket, session[:]), expire, nil},
		{"a session's end is malformed", put(EndsBucket, []byte{0}, nil), expire, nil},
		{"a session has no user entry", remove(SignedInBucket, append(idKey[apikey.UserID](1), session[:]...)), nil, nil},
		{"a session has no end entry", remove(EndsBucket, append(end, session[:]...)), nil, nil},
		{"an end too many", put(EndsBucket, append(endKey(time.Unix(9, 0)), session[:]...), nil), nil, nil},
		{"a session of no user", func(tx Tx) error {
			return tx.Put(SessionsBucket, session[:], encodeSession(&store.Session{User: 9, ExpiresAt: time.UnixMicro(5)}))
		}, nil, nil},
		{"a previous hash leads to another key", put(HashesBucket, previous[:], idKey[apikey.KeyID](2)), findPrevious, nil},
		{"a previous hash leads nowhere", remove(HashesBucket, previous[:]), nil, nil},
		{"a previous hash too many", put(HashesBucket, make([]byte, 32), idKey[apikey.KeyID](1)), nil, nil},
		{"an invitation is malformed", put(InvitationsBucket, session[:], []byte{recordFormat, 2}), findInvitation, nil},
		{"an invitation is newer", put(InvitationsBucket, session[:], []byte{9}), findInvitation, ErrNewer},
		{"an invitation's role is newer", put(InvitationsBucket, session[:], appendNumber(appendText([]byte{recordFormat}, invitationName, "joe"), invitationRole, 9)), findInvitation, ErrNewer},
		{"an invitation's id is short", put(InvitationsBucket, []byte{7}, encodeInvitation(&store.Invitation{Name: "joe"})), nil, nil},
		{"an event is malformed", put(EventsBucket, idKey[int64](2), []byte{recordFormat, 2}), listEvents, nil},
		{"an event is newer", put(EventsBucket, idKey[int64](2), []byte{9}), listEvents, ErrNewer},
		{"an event above the last id", put(EventsBucket, idKey[int64](99), encodeEvent(&store.Event{By: by, Action: "x"})), nil, nil},
		{"a session's id is short", put(SessionsBucket, []byte{7}, encodeSession(&store.Session{User: 1})), nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			path := filepath.Join(t.TempDir(), "keys.db")
			file, err := openFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := New(file, Options{})
			defer s.Close()
			for i, name := range []string{"ada", "bob"} {
				_, userErr := s.CreateUser(ctx, &store.User{Name: name, Email: name + "@example.io"}, by)
				_, keyErr := s.CreateKey(ctx, &apikey.Key{Hash: apikey.Hash{byte(i + 1)}, Name: "a", Owner: apikey.UserID(i + 1)}, by)
				if err := errors.Join(userErr, keyErr); err != nil {
					t.Fatal(err)
				}
			}
			_, err = s.UpdateKey(ctx, 0, 1, func(key *apikey.Key) error {
				key.PreviousHash, key.PreviousUntil = previous, time.UnixMicro(1)
				return nil
			}, by)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.CreateSession(ctx, &store.Session{ID: session, User: 1, ExpiresAt: time.UnixMicro(5)}, by); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Verify(ctx); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			if err := s.engine.Update(ctx, c.change); err != nil {
				t.Fatal(err)
			}
			want := c.want
			if want == nil {
				want = store.ErrDamaged
			}
			if c.meets != nil {
				if err := c.meets(s); !errors.Is(err, want) || errors.Is(err, store.ErrNotFound) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			_, err = s.Verify(ctx)
			if !errors.Is(err, want) {
				t.Errorf("Verify: got %v, want %v", err, want)
			}
			if err != nil && strings.Contains(err.Error(), "01000000") {
				t.Errorf("the error shows a session: %v", err)
			}
		})
	}
}
