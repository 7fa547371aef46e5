package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// service is what both APIs do, without HTTP. Its errors are a [*Problem], an
// [*apikey.FieldError] or what the store returned.
type service struct {
	store        Store
	passwords    *hasher
	throttle     *throttle
	logger       *slog.Logger
	now          func() time.Time
	sessionTTL   time.Duration
	defaultLimit uint32
	// changing is held while a password hash is replaced, so that a hash
	// made from an old password never takes the place of a new one.
	changing sync.Mutex
}

// actor is who does something, and from where: what a log line, and an audit
// log, says of a change.
type actor struct {
	user    apikey.UserID // zero: the operator
	name    string
	address netip.Addr // invalid on the operator's socket
}

// audited returns the actor as the audit log knows it.
func (a actor) audited(at time.Time) store.Actor {
	by := store.Actor{Kind: store.ActorUser, User: a.user, Name: a.name, Address: a.address, At: at}
	if a.user == 0 {
		by.Kind = store.ActorOperator
	}
	return by
}

// operatorActor acts for whoever can open the operator's socket.
var operatorActor = actor{name: "operator"}

// caller is an actor with the session that proves it.
type caller struct {
	actor
	session store.SessionID
}

func callerFrom(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey).(caller)
	return c
}

func (s *service) log(ctx context.Context, by actor, event string, attributes ...any) {
	attributes = append(attributes, "by", by.name)
	if by.address.IsValid() {
		attributes = append(attributes, "address", by.address)
	}
	s.logger.InfoContext(ctx, event, attributes...)
}

// login opens a session for a user who names themselves by user name or
// address. Whether the user exists, the password is wrong or the login could
// not be anybody's makes no difference to the answer or to its time.
func (s *service) login(ctx context.Context, address netip.Addr, name, password string) (sessionToken, time.Time, error) {
	login, err := store.CanonicalLogin(name)
	if err != nil {
		login = ""
	}
	tags := []uint64{s.throttle.accountTag(login)}
	if login == "" {
		// What cannot be a login is nobody's account: only its address
		// counts.
		tags = tags[:0]
	}
	if address.IsValid() {
		tags = append(tags, s.throttle.addressTag(address))
	}
	if wait, allowed := s.throttle.take(s.now(), tags...); !allowed {
		s.logger.WarnContext(ctx, "login refused: too many attempts", "address", address)
		problem := newProblem(CodeTooManyAttempts)
		problem.retryAfter = wait
		return sessionToken{}, time.Time{}, problem
	}
	user, match, err := s.checkLogin(ctx, login, password)
	if err != nil {
		s.throttle.giveBack(tags...)
		return sessionToken{}, time.Time{}, err
	}
	if !match {
		// A name that is nobody's is not logged: it may be a password that
		// was typed into the wrong field.
		attributes := []any{"address", address, "known", user != nil}
		if user != nil {
			attributes = append(attributes, "user", user.Name)
		}
		s.logger.WarnContext(ctx, "login failed", attributes...)
		return sessionToken{}, time.Time{}, newProblem(CodeInvalidCredentials)
	}
	s.throttle.giveBack(tags...)
	return s.openSession(ctx, user, address)
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

func (s *service) openSession(ctx context.Context, user *store.User, address netip.Addr) (sessionToken, time.Time, error) {
	token := newSessionToken()
	now := s.now().UTC().Truncate(time.Microsecond)
	session := store.Session{ID: token.id(), User: user.ID, CreatedAt: now, ExpiresAt: now.Add(s.sessionTTL)}
	if err := s.store.CreateSession(ctx, &session, actor{user.ID, user.Name, address}.audited(now)); err != nil {
		return sessionToken{}, time.Time{}, fmt.Errorf("opening a session: %w", err)
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
		return sessionToken{}, time.Time{}, err
	}
	s.log(ctx, actor{user.ID, user.Name, address}, "login", "user_id", user.ID, "expires_at", session.ExpiresAt)
	return token, session.ExpiresAt, nil
}

// authenticate returns whose live session r carries.
func (s *service) authenticate(ctx context.Context, r *http.Request) (caller, error) {
	token, found := bearerToken(r)
	if !found {
		return caller{}, newProblem(CodeUnauthenticated)
	}
	session, err := s.store.FindSession(ctx, token.id())
	if errors.Is(err, store.ErrNotFound) || err == nil && !s.now().Before(session.ExpiresAt) {
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
	return caller{actor{user.ID, user.Name, addressFrom(ctx)}, session.ID}, nil
}

func (s *service) logout(ctx context.Context, by caller) error {
	if err := s.store.DeleteSession(ctx, by.session, by.audited(s.now())); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	s.log(ctx, by.actor, "logout", "user_id", by.user)
	return nil
}
