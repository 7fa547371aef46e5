package extauthz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Context extensions say what a route asks of its requests. They come from
// Envoy's configuration, never from a client.
const (
	// ExplainExtension, with the value "true", asks a Check to explain its
	// decision only: nothing is spent, counted or logged.
	ExplainExtension = "tokenkit.explain"
	// ScopeExtension is the name of a scope that the key must have.
	ScopeExtension = "tokenkit.scope"
	// CostExtension is how many calls of the hourly limit a request takes, a
	// whole number from 1 to 1,000,000.
	CostExtension = "tokenkit.cost"
	// AnonymousExtension, with the value "true", lets requests without a key
	// pass.
	AnonymousExtension = "tokenkit.anonymous"
)

// maxCost is the largest value of [CostExtension].
const maxCost = 1_000_000

// Options say how a [Server] reads requests and words its answers. The zero
// value reads the "api-key" header and the peer's address.
type Options struct {
	Sources  CredentialSources
	Address  ClientAddress
	Identity IdentityHeaders
	// RemoveUnderscored removes, from requests that are allowed, headers that
	// are an identity header but for underscores in the place of hyphens. Many
	// servers read both as one. For an Envoy that lets such names through.
	RemoveUnderscored bool
	// LimitStatus is the HTTP status of a spent hourly limit: 403, the
	// documented one and the default, or 429.
	LimitStatus int
	// Logger hears of internal faults, as many a second as of denials, see
	// [AuthorizerOptions]. Nil: [slog.Default].
	Logger *slog.Logger
	// Observer hears of Checks. Nil: nobody does.
	Observer Observer
	// ObserveRequests has the observer told the host and x-request-id header
	// too, which are not read otherwise.
	ObserveRequests bool
}

// Server implements Envoy's Authorization service.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	authorizer *Authorizer
	parser     parser
	shape      *shape
	responder  responder
	checks     sync.Pool // of [*wireCheck]
	answers    answers
	observer   Observer
	logger     *slog.Logger
	faults     sampler // of lines about faults
}

var _ authv3.AuthorizationServer = (*Server)(nil)

// NewServer returns a Server that asks authorizer, or an error that names the
// wrong option and what was expected.
func NewServer(authorizer *Authorizer, o Options) (*Server, error) {
	if authorizer == nil {
		return nil, errors.New("ext_authz server: an authorizer must be set")
	}
	o.setDefaults()
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("ext_authz server: %w", err)
	}
	shape, err := newCheckShape()
	if err != nil {
		return nil, fmt.Errorf("ext_authz server: %w", err)
	}
	s := &Server{
		authorizer: authorizer,
		parser:     newParser(o.Sources, o.Address),
		shape:      shape,
		responder:  newResponder(&o),
		observer:   o.Observer,
		logger:     o.Logger,
		faults:     sampler{most: &authorizer.logged},
	}
	if o.Observer != nil && o.ObserveRequests {
		s.parser.observeRequests()
	}
	return s, nil
}

func (o *Options) setDefaults() {
	if o.Sources.Headers == nil {
		o.Sources.Headers = []string{"api-key"}
	}
	defaultTo(&o.Identity.KeyID, "x-api-key-id")
	defaultTo(&o.Identity.KeyName, "x-api-key-name")
	defaultTo(&o.Identity.Owner, "x-api-key-owner")
	defaultTo(&o.Identity.Metadata, "x-api-key-metadata")
	if o.LimitStatus == 0 {
		o.LimitStatus = http.StatusForbidden
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Validate reports the first option that is wrong and what was expected.
func (o Options) Validate() error {
	o.setDefaults()
	return o.check()
}

func defaultTo(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func (o *Options) check() error {
	if len(o.Sources.Headers) == 0 && o.Sources.QueryParameter == "" && !o.Sources.Bearer {
		return errors.New("expected at least one place where requests carry their key")
	}
	identity := o.Identity.names()
	seen := map[string]bool{}
	for _, name := range slices.Concat(o.Sources.Headers, identity) {
		if !validHeaderName(name) {
			return fmt.Errorf("header name %q: expected a lower-case HTTP field name", name)
		}
		if slices.Contains([]string{"authorization", "host", "origin", "x-origin", "x-forwarded-for", "connection", "content-length", "transfer-encoding"}, name) {
			return fmt.Errorf("header name %q: expected a name that has no other meaning", name)
		}
		if seen[name] {
			return fmt.Errorf("header name %q: expected each name to be used once", name)
		}
		seen[name] = true
	}
	if o.RemoveUnderscored {
		if err := checkUnderscored(identity); err != nil {
			return err
		}
	}
	if name := o.Sources.QueryParameter; strings.ContainsAny(name, "=&#%+?; ") {
		return fmt.Errorf("query parameter %q: expected a name that needs no escapes", name)
	}
	switch o.Address.Mode {
	case AddressPeer:
	case AddressHeader:
		if !validHeaderName(o.Address.Header) {
			return fmt.Errorf("client address header %q: expected a lower-case HTTP field name", o.Address.Header)
		}
	case AddressForwarded:
		if o.Address.TrustedHops < 0 {
			return fmt.Errorf("trusted hops %d: expected 0 or more", o.Address.TrustedHops)
		}
	default:
		return fmt.Errorf("client address mode %d is none of the known ones", o.Address.Mode)
	}
	if o.LimitStatus != http.StatusForbidden && o.LimitStatus != http.StatusTooManyRequests {
		return fmt.Errorf("limit status %d: expected 403 or 429", o.LimitStatus)
	}
	return nil
}

func validHeaderName(name string) bool {
	return httpguts.ValidHeaderFieldName(name) && strings.ToLower(name) == name
}

func describe(sources CredentialSources) string {
	var places []string
	for _, name := range sources.Headers {
		places = append(places, "the "+name+" header")
	}
	if sources.QueryParameter != "" {
		places = append(places, "the "+sources.QueryParameter+" query parameter")
	}
	if sources.Bearer {
		places = append(places, "an Authorization: Bearer header")
	}
	return strings.Join(places, " or ")
}

// Register adds the service to a gRPC server.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	authv3.RegisterAuthorizationServer(registrar, s)
}

// Check answers one request of Envoy's. It returns a gRPC error, which Envoy
// answers with its status_on_error, only where nothing could be decided.
func (s *Server) Check(ctx context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	var v view
	v.read(check, &s.parser.wanted)
	a := s.newAnswer()
	defer s.answers.Put((*[]byte)(a))
	if err := s.answer(ctx, &v, a); err != nil {
		return nil, err
	}
	response := &authv3.CheckResponse{}
	if err := proto.Unmarshal(*a, response); err != nil {
		return nil, fmt.Errorf("reading the own answer: %w", err)
	}
	return response, nil
}

// answer writes the answer to what v shows to a, which must be empty.
func (s *Server) answer(ctx context.Context, v *view, a *answer) error {
	request, err := s.parser.parse(v)
	var outcome Outcome
	if err != nil {
		outcome.At = s.authorizer.now()
		s.fault(ctx, outcome.At, "check failed: the route is not configured well", err)
		err = status.Error(codes.InvalidArgument, err.Error())
	} else {
		outcome, err = s.decide(ctx, &request)
	}
	if err == nil {
		s.responder.respond(a, &outcome, request.bearerUsed, request.grpc)
	}
	if s.observer != nil && !request.explain {
		s.observe(ctx, v, &request, &outcome, err)
	}
	return err
}

// decide returns what is decided, or the gRPC error to answer with.
func (s *Server) decide(ctx context.Context, request *parsed) (Outcome, error) {
	var outcome Outcome
	var err error
	if request.explain { // through a variable, the request would be allocated
		outcome, err = s.authorizer.Explain(ctx, &request.Request)
	} else {
		outcome, err = s.authorizer.Authorize(ctx, &request.Request)
	}
	switch {
	case err == nil:
		return outcome, nil
	case ctx.Err() != nil:
		return outcome, status.FromContextError(ctx.Err()).Err()
	}
	s.fault(ctx, outcome.At, "check failed", err)
	return outcome, status.Error(codes.Unavailable, "no decision could be made")
}

func (s *Server) fault(ctx context.Context, now time.Time, message string, err error) {
	if withheld, ok := s.faults.pass(now); ok {
		s.logger.LogAttrs(ctx, slog.LevelError, message, appendWithheld([]slog.Attr{slog.Any("error", err)}, withheld)...)
	}
}
