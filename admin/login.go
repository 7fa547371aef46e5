package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/store"
)

// login opens a session for a user who names themselves by user name or
// address. Whether the user exists, the password is wrong or the login could
// not be anybody's makes no difference to the answer or to its time.
func (s *service) login(ctx context.Context, from client, name, password string) (opened, error) {
	login, err := store.CanonicalLogin(name)
	if err != nil {
		login = ""
	}
	giveBack, err := s.attempt(ctx, from.address, login)
	if err != nil {
		return opened{}, err
	}
	user, match, err := s.checkLogin(ctx, login, password)
	if err != nil {
		giveBack()
		return opened{}, err
	}
	if !match {
		s.loginFailed(ctx, from.address, user)
		return opened{}, newProblem(CodeInvalidCredentials)
	}
	giveBack()
	return s.openSession(ctx, user, from)
}

// attempt counts an attempt to prove who somebody is, as if it had failed, or
// refuses it. giveBack forgets it. What cannot be a login is empty: it is
// nobody's account, and only its address counts.
func (s *service) attempt(ctx context.Context, address netip.Addr, login string) (giveBack func(), err error) {
	var tags []uint64
	if login != "" {
		tags = append(tags, s.throttle.accountTag(login))
	}
	if address.IsValid() {
		tags = append(tags, s.throttle.addressTag(address))
	}
	if wait, allowed := s.throttle.take(s.now(), tags...); !allowed {
		s.logger.WarnContext(ctx, "login refused: too many attempts", "address", address)
		problem := newProblem(CodeTooManyAttempts)
		problem.retryAfter = wait
		return nil, problem
	}
	return func() { s.throttle.giveBack(tags...) }, nil
}

// loginFailed logs that somebody did not prove to be user, and puts it into
// the audit log. A name that is nobody's is not told: it may be a password
// that was typed into the wrong field.
func (s *service) loginFailed(ctx context.Context, address netip.Addr, user *store.User) {
	attributes := []any{"address", address, "known", user != nil}
	by := store.Actor{Kind: store.ActorUser, Address: address, At: s.now()}
	event := store.Event{By: by, Action: store.ActionLoginFail, TargetKind: store.TargetUser}
	if user != nil {
		attributes = append(attributes, "user", user.Name)
		event.By.Name, event.TargetID, event.TargetName = user.Name, int64(user.ID), user.Name
	}
	s.logger.WarnContext(ctx, "login failed", attributes...)
	if err := s.store.AppendEvent(ctx, &event); err != nil {
		s.logger.ErrorContext(ctx, "writing a failed login to the audit log", "error", err)
	}
}

// checkLogin returns the user, nil where there is none, and whether the
// password is theirs.
func (s *service) checkLogin(ctx context.Context, login, password string) (*store.User, bool, error) {
	var user *store.User
	var hash string
	if login != "" {
		found, err := s.store.FindUser(ctx, login)
		switch {
		case err == nil:
			user, hash = found, found.PasswordHash
		case !errors.Is(err, store.ErrNotFound):
			return nil, false, fmt.Errorf("finding a user: %w", err)
		}
	}
	match, outdated, err := s.passwords.verify(ctx, hash, password)
	if err != nil || !match {
		return user, false, err
	}
	if outdated {
		user = s.renewHash(ctx, user, password)
	}
	return user, true, nil
}

// renewHash replaces a hash that was made under another cost, which ends the
// user's other sessions. It returns the user as stored then. Failing to renew
// does not fail the login.
func (s *service) renewHash(ctx context.Context, user *store.User, password string) *store.User {
	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return user
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	current, err := s.store.User(ctx, user.ID)
	if err != nil || current.PasswordHash != user.PasswordHash {
		return user
	}
	if err := s.store.SetPasswordHash(ctx, user.ID, user.PasswordHash, hash, nil, store.Actor{At: s.now()}); err != nil {
		s.logger.WarnContext(ctx, "renewing a password hash", "user", user.Name, "error", err)
		return user
	}
	renewed := *current
	renewed.PasswordHash = hash
	return &renewed
}

// opened is a new session.
type opened struct {
	token   sessionToken
	session store.Session
	user    *store.User
}

func (s *service) openSession(ctx context.Context, user *store.User, from client) (opened, error) {
	token := newSessionToken()
	now := s.now().UTC().Truncate(time.Microsecond)
	session := store.Session{
		ID: token.id(), User: user.ID, CreatedAt: now, ExpiresAt: now.Add(s.policy.Load().sessionTTL), Address: from.address, UserAgent: from.userAgent,
	}
	by := actor{user.ID, user.Name, from.address}
	if err := s.store.CreateSession(ctx, &session, by.audited(now)); err != nil {
		return opened{}, fmt.Errorf("opening a session: %w", err)
	}
	// A password that was changed after it was checked has ended all sessions
	// but this one.
	current, err := s.store.User(ctx, user.ID)
	if err == nil && current.PasswordHash != user.PasswordHash {
		err = newProblem(CodeInvalidCredentials)
	}
	if err != nil {
		if endErr := s.store.DeleteSession(ctx, session.ID, store.Actor{At: s.now()}); endErr != nil {
			s.logger.ErrorContext(ctx, "ending a session of a changed password", "user", user.Name, "error", endErr)
		}
		return opened{}, err
	}
	s.log(ctx, by, "login", "user_id", user.ID, "expires_at", session.ExpiresAt)
	return opened{token, session, current}, nil
}

// authenticate returns whose live session r carries: by its bearer token, or
// without one by its cookie.
func (s *service) authenticate(ctx context.Context, r *http.Request) (caller, error) {
	token, found := bearerToken(r)
	if len(r.Header.Values("Authorization")) == 0 {
		token, found = s.cookie.token(r)
	}
	if !found {
		return caller{}, newProblem(CodeUnauthenticated)
	}
	now := s.now()
	session, err := s.store.FindSession(ctx, token.id())
	if errors.Is(err, store.ErrNotFound) || err == nil && s.ended(session, now) {
		return caller{}, newProblem(CodeUnauthenticated)
	}
	if err != nil {
		return caller{}, fmt.Errorf("finding a session: %w", err)
	}
	user, err := s.store.User(ctx, session.User)
	if errors.Is(err, store.ErrNotFound) {
		return caller{}, newProblem(CodeUnauthenticated)
	}
	if err != nil {
		return caller{}, fmt.Errorf("finding a session's user: %w", err)
	}
	s.seen.note(session, now)
	return caller{actor{user.ID, user.Name, clientFrom(ctx).address}, user.Role, user, session}, nil
}

// ended reports whether a session is too old, or was not used for too long.
func (s *service) ended(session *store.Session, now time.Time) bool {
	used := s.seen.lastSeen(session)
	if used.Before(session.CreatedAt) {
		used = session.CreatedAt
	}
	return !now.Before(session.ExpiresAt) || now.Sub(used) >= s.policy.Load().sessionIdle
}

func (s *service) logout(ctx context.Context, by caller) error {
	if err := s.store.DeleteSession(ctx, by.session.ID, by.audited(s.now())); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	s.log(ctx, by.actor, "logout", "user_id", by.user)
	return nil
}
