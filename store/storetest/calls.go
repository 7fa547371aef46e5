package storetest

import (
	"context"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// call is one call of a method that may fail because of its context or store.
type call struct {
	name    string
	changes bool
	run     func(ctx context.Context) error
}

// calls returns a call of every method that would otherwise succeed. Each
// change makes or removes something of its own.
func (s *subject) calls() []call {
	user := s.user("caller" + s.hash().String()[:8])
	key, doomed, lost := s.key(user, "kept"), s.key(user, "doomed"), s.key(user, "lost")
	session := s.session(user, time.Hour)
	s.session(user, 2*time.Hour)
	leaving := s.user("leaving" + s.hash().String()[:8])
	invitation, accepted := s.invitation("guest"+s.hash().String()[:8]), s.invitation("guest"+s.hash().String()[:8])
	return []call{
		{"FindKey", false, func(ctx context.Context) error {
			_, err := s.FindKey(ctx, key.Hash)
			return err
		}},
		{"ListKeys", false, func(ctx context.Context) error {
			_, err := s.ListKeys(ctx, user.ID)
			return err
		}},
		{"FindUser", false, func(ctx context.Context) error {
			_, err := s.FindUser(ctx, user.Name)
			return err
		}},
		{"User", false, func(ctx context.Context) error {
			_, err := s.User(ctx, user.ID)
			return err
		}},
		{"ListUsers", false, func(ctx context.Context) error {
			_, err := s.ListUsers(ctx)
			return err
		}},
		{"FindSession", false, func(ctx context.Context) error {
			_, err := s.FindSession(ctx, session.ID)
			return err
		}},
		{"Key", false, func(ctx context.Context) error {
			_, err := s.Key(ctx, 0, key.ID)
			return err
		}},
		{"EachKey", false, func(ctx context.Context) error {
			return s.EachKey(ctx, 0, func(*apikey.Key) error { return nil })
		}},
		{"SearchKeys", false, func(ctx context.Context) error {
			_, err := s.SearchKeys(ctx, store.KeyFilter{Search: "no such text"})
			return err
		}},
		{"FindInvitation", false, func(ctx context.Context) error {
			_, err := s.FindInvitation(ctx, invitation.ID)
			return err
		}},
		{"ListInvitations", false, func(ctx context.Context) error {
			_, err := s.ListInvitations(ctx)
			return err
		}},
		{"ListSessions", false, func(ctx context.Context) error {
			_, err := s.ListSessions(ctx, user.ID)
			return err
		}},
		{"ListEvents", false, func(ctx context.Context) error {
			_, err := s.ListEvents(ctx, store.EventFilter{})
			return err
		}},
		{"CreateKeys", true, func(ctx context.Context) error {
			_, err := s.CreateKeys(ctx, []*apikey.Key{{Hash: s.hash(), Name: "new", Owner: user.ID}}, by)
			return err
		}},
		{"UpdateKey", true, func(ctx context.Context) error {
			_, err := s.UpdateKey(ctx, 0, key.ID, func(key *apikey.Key) error {
				key.Notes += "x"
				return nil
			}, by)
			return err
		}},
		{"DeleteKeys", true, func(ctx context.Context) error {
			_, err := s.DeleteKeys(ctx, 0, []apikey.KeyID{lost.ID}, by)
			return err
		}},
		{"UpdateUser", true, func(ctx context.Context) error {
			_, err := s.UpdateUser(ctx, user.ID, func(user *store.User) error {
				user.Email = "caller" + s.hash().String()[:8] + "@example.io"
				return nil
			}, by)
			return err
		}},
		{"DeleteUser", true, func(ctx context.Context) error {
			_, err := s.DeleteUser(ctx, leaving.ID, by)
			return err
		}},
		{"CreateInvitation", true, func(ctx context.Context) error {
			return s.CreateInvitation(ctx, &store.Invitation{ID: store.InvitationID(s.hash()), Name: "guest" + s.hash().String()[:8], ExpiresAt: day.Add(time.Hour)}, by)
		}},
		{"AcceptInvitation", true, func(ctx context.Context) error {
			_, err := s.AcceptInvitation(ctx, accepted.ID, "$argon2id$canary", by)
			return err
		}},
		{"DeleteInvitation", true, func(ctx context.Context) error {
			_, err := s.DeleteInvitation(ctx, invitation.ID, by)
			return err
		}},
		{"DeleteSessions", true, func(ctx context.Context) error {
			_, err := s.DeleteSessions(ctx, user.ID, &session.ID, by)
			return err
		}},
		{"TouchSessions", true, func(ctx context.Context) error {
			return s.TouchSessions(ctx, map[store.SessionID]time.Time{session.ID: day})
		}},
		{"AppendEvent", true, func(ctx context.Context) error {
			return s.AppendEvent(ctx, &store.Event{By: by, Action: store.ActionLoginFail})
		}},
		{"CreateKey", true, func(ctx context.Context) error {
			_, err := s.CreateKey(ctx, &apikey.Key{Hash: s.hash(), Name: "new", Owner: user.ID}, by)
			return err
		}},
		{"DeleteKey", true, func(ctx context.Context) error {
			_, err := s.DeleteKey(ctx, 0, doomed.ID, by)
			return err
		}},
		{"TouchKeys", true, func(ctx context.Context) error {
			return s.TouchKeys(ctx, map[apikey.KeyID]time.Time{key.ID: day})
		}},
		{"CreateUser", true, func(ctx context.Context) error {
			_, err := s.CreateUser(ctx, &store.User{Name: "new" + s.hash().String()[:8]}, by)
			return err
		}},
		{"SetPasswordHash", true, func(ctx context.Context) error {
			return s.SetPasswordHash(ctx, user.ID, "", "$argon2id$canary", nil, by)
		}},
		{"CreateSession", true, func(ctx context.Context) error {
			return s.CreateSession(ctx, &store.Session{ID: store.SessionID(s.hash()), User: user.ID, ExpiresAt: day}, by)
		}},
		{"DeleteSession", true, func(ctx context.Context) error {
			return s.DeleteSession(ctx, session.ID, by)
		}},
		{"DeleteExpiredSessions", true, func(ctx context.Context) error {
			_, err := s.DeleteExpiredSessions(ctx, day.Add(24*time.Hour))
			return err
		}},
	}
}
