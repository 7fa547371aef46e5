package extauthz

import (
	"context"
	"net/netip"
	"strings"
	"time"
)

// Observer hears of every Check but those that only explain, as soon as its
// answer is written. Implementations must be safe for concurrent use, and must
// not block: Envoy waits for them.
type Observer interface {
	Checked(ctx context.Context, check Checked)
}

// Checked is one Check and what came of it. There is no secret in it, but what
// clients chose, of whatever length, in Method, Path, Host and RequestID.
type Checked struct {
	// Outcome is the decision. Where Err is set there is none, and only its
	// At says something.
	Outcome
	// Err is the gRPC error that Envoy got in place of an answer.
	Err error
	// Duration is how long it took from Outcome.At, which is when the request
	// was read, until the answer was written; gRPC's own work is not in it.
	Duration time.Duration
	// Address is the client's address. Invalid: it is not known.
	Address netip.Addr
	// Method and Path are the request's; Path is without its query, which may
	// carry a key.
	Method, Path string
	// RequiredScope is the scope that the route asks for. Empty: none.
	RequiredScope string
	// Host and RequestID are the request's host and x-request-id header.
	// Empty unless [Options.ObserveRequests] is set.
	Host, RequestID string
}

// observe tells the observer of a Check.
func (s *Server) observe(ctx context.Context, v *view, request *parsed, outcome *Outcome, err error) {
	path, _, _ := strings.Cut(v.path, "?")
	check := Checked{
		Outcome: *outcome, Err: err,
		Address: request.Address, Method: v.method, Path: path, RequiredScope: request.RequiredScope,
		Host: v.host,
	}
	if s.parser.requestID >= 0 {
		check.RequestID, _ = v.joined(s.parser.requestID)
	}
	check.Duration = s.authorizer.since(outcome.At)
	s.observer.Checked(ctx, check)
}
