package admin

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// service is what both APIs do, without HTTP. Its errors are a [*Problem], an
// [*apikey.FieldError] or what the store returned.
type service struct {
	store       Store
	passwords   *hasher
	keyHasher   apikey.Hasher
	throttle    *throttle
	logger      *slog.Logger
	now         func() time.Time
	policy      atomic.Pointer[policy]
	limitStatus int
	timeout     time.Duration // of what is behind a request
	usage       Usage         // may be nil
	limits      Limits        // may be nil
	blocks      Blocks        // may be nil
	cookie      sessionCookie
	publicURL   string // without a slash at its end
	seen        seenSessions
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

// caller is an actor with what they may do, and the session that proves it.
type caller struct {
	actor
	role    store.Role
	account *store.User    // nil for the operator
	session *store.Session // nil for the operator
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
