package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tokenkithq/authz/store"
)

// SessionInfo is what may be told of a session: everything but its token.
type SessionInfo struct {
	ID         string     `json:"id" doc:"Names the session in lists. It is of no use for signing in."`
	Current    bool       `json:"current" doc:"Whether it is the session of this request."`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  time.Time  `json:"expires_at" doc:"When the session ends, used or not. Unused it ends earlier."`
	LastSeenAt *time.Time `json:"last_seen_at" nullable:"true" doc:"When it was last used, a minute late at most; null: not since it began."`
	Address    string     `json:"address" doc:"Where the login came from. Empty: not known."`
	UserAgent  string     `json:"user_agent" doc:"What the client called itself then."`
}

type revokeRequest struct {
	SessionID string `json:"session_id" minLength:"1" maxLength:"64" doc:"As the list of sessions shows it."`
}

// RevokedSessions says how many sessions were ended.
type RevokedSessions struct {
	Revoked int `json:"revoked"`
}

type passwordChange struct {
	Current string `json:"current_password" minLength:"1" maxLength:"1024" writeOnly:"true"`
	New     string `json:"new_password" minLength:"12" maxLength:"256" doc:"At least 12 characters and at most 256 bytes." writeOnly:"true"`
}

func registerOwnSessions(public *api, s *service) {
	register(public, operation{
		id: "list-sessions", method: http.MethodGet, path: public.base + "sessions/", summary: "List your sessions", session: true,
	}, func(ctx context.Context, _ *nothing) (*list[SessionInfo], error) {
		return listed(s.listSessions(ctx, callerFrom(ctx)))
	})
	register(public, operation{
		id: "revoke-session", method: http.MethodPost, path: public.base + "sessions/revoke/", summary: "End one of your sessions", session: true,
		status: http.StatusNoContent, codes: []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[revokeRequest]) (*nothing, error) {
		return nil, s.revokeSession(ctx, callerFrom(ctx), request.Body.SessionID)
	})
	register(public, operation{
		id: "revoke-other-sessions", method: http.MethodPost, path: public.base + "sessions/revoke-others/", summary: "End all your sessions but this one",
		session: true, codes: []string{CodeStorageFull},
	}, func(ctx context.Context, _ *nothing) (*answer[RevokedSessions], error) {
		by := callerFrom(ctx)
		n, err := s.store.DeleteSessions(ctx, by.user, &by.session.ID, by.audited(s.now()))
		if err != nil {
			return nil, fmt.Errorf("ending other sessions: %w", err)
		}
		s.log(ctx, by.actor, "other sessions ended", "user_id", by.user, "sessions", n)
		return &answer[RevokedSessions]{RevokedSessions{n}}, nil
	})
	register(public, operation{
		id: "change-password", method: http.MethodPost, path: public.base + "change-password/", summary: "Change your password", session: true,
		description: "Ends all your other sessions. Wrong present passwords count as failed logins.", status: http.StatusNoContent,
		codes: []string{CodeTooManyAttempts, CodeBusy, CodeConflict, CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[passwordChange]) (*nothing, error) {
		return nil, s.changePassword(ctx, callerFrom(ctx), request.Body.Current, request.Body.New)
	})
}

func (s *service) listSessions(ctx context.Context, by caller) ([]SessionInfo, error) {
	sessions, err := s.store.ListSessions(ctx, by.user)
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	now, infos := s.now(), []SessionInfo{}
	for _, session := range sessions {
		if s.ended(session, now) {
			continue
		}
		info := SessionInfo{
			ID: session.ID.Public(), Current: session.ID == by.session.ID, CreatedAt: session.CreatedAt.UTC(), ExpiresAt: session.ExpiresAt.UTC(),
			LastSeenAt: timeOrNil(s.seen.lastSeen(session).Truncate(time.Second)), UserAgent: session.UserAgent,
		}
		if session.Address.IsValid() {
			info.Address = session.Address.String()
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (s *service) revokeSession(ctx context.Context, by caller, id string) error {
	sessions, err := s.store.ListSessions(ctx, by.user)
	if err != nil {
		return fmt.Errorf("listing sessions: %w", err)
	}
	for _, session := range sessions {
		if session.ID.Public() != id {
			continue
		}
		if err := s.store.DeleteSession(ctx, session.ID, by.audited(s.now())); err != nil {
			return fmt.Errorf("ending a session: %w", err)
		}
		s.log(ctx, by.actor, "session ended", "user_id", by.user, "session", id)
		return nil
	}
	return newProblem(CodeNotFound, FieldProblem{Location: "body.session_id", Message: "expected the id of one of your sessions"})
}

// changePassword gives the caller a new password and ends their other
// sessions.
func (s *service) changePassword(ctx context.Context, by caller, current, password string) error {
	if err := checkPassword(password); err != nil {
		return invalidField("new_password", err.Error())
	}
	giveBack, err := s.attempt(ctx, by.address, by.name)
	if err != nil {
		return err
	}
	match, _, err := s.passwords.verify(ctx, by.account.PasswordHash, current)
	if err != nil {
		giveBack()
		return err
	}
	if !match {
		s.loginFailed(ctx, by.address, by.account)
		return invalidField("current_password", "expected your present password")
	}
	giveBack()
	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	err = s.store.SetPasswordHash(ctx, by.user, by.account.PasswordHash, hash, &by.session.ID, by.audited(s.now()))
	if errors.Is(err, store.ErrConflict) {
		return newProblem(CodeConflict)
	}
	if err != nil {
		return fmt.Errorf("changing a password: %w", err)
	}
	s.log(ctx, by.actor, "password changed", "user", by.name, "user_id", by.user)
	return nil
}
