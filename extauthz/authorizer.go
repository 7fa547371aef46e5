package extauthz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// KeyFinder finds keys by the hash of their secret. Implementations must
// return [apikey.ErrNotFound], wrapped or not, for a key that does not exist
// and for nothing else.
type KeyFinder interface {
	FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error)
}

// Limiter spends the calls that a key may make an hour. Implementations must
// allow at most the key's limit in any 60 minutes, and must return an error
// where they cannot decide.
type Limiter interface {
	// Spend takes n calls, at least one, from the key's limit, or none where
	// fewer are left.
	Spend(ctx context.Context, key *apikey.Key, n uint32, now time.Time) (limit.Result, error)
	// Peek returns what Spend would, and spends nothing.
	Peek(key *apikey.Key, n uint32, now time.Time) limit.Result
}

// Blocker remembers the addresses that failed too often. Implementations must
// ignore an invalid address: an unknown client is not one client.
type Blocker interface {
	// Blocked returns for how long an address is still blocked.
	Blocked(address netip.Addr, now time.Time) (time.Duration, bool)
	// Failed counts a failure and reports whether it made the address blocked.
	Failed(address netip.Addr, reason apikey.Reason, now time.Time) bool
}

// UseRecorder hears of every allowed call; it must not block.
type UseRecorder interface {
	Touch(id apikey.KeyID, now time.Time)
}

// Recorder hears of every decision about a key that exists; it must not block.
type Recorder interface {
	Record(id apikey.KeyID, reason apikey.Reason, now time.Time)
}

// AuthorizerOptions are what an [Authorizer] decides with. Keys, Limiter and
// Blocker must be set.
type AuthorizerOptions struct {
	Keys    KeyFinder
	Limiter Limiter
	Blocker Blocker
	// Hasher makes the hashes that keys are found by. Zero: SHA-256.
	Hasher apikey.Hasher
	// Uses hears of allowed calls. Nil: nobody does.
	Uses UseRecorder
	// Recorder hears of decisions. Nil: nobody does.
	Recorder Recorder
	// Strict makes every key strict, see [apikey.Key].
	Strict bool
	// Uncounted are the denials that do not count towards blocking an
	// address. A missing key is no attempt and never counts.
	Uncounted []apikey.Reason
	// Logger hears of denials and faults. Nil: [slog.Default].
	Logger *slog.Logger
	// LoggedPerSecond is how many denials a second are logged for each reason,
	// and how many faults; the next line says how many were not. Zero: 10.
	// Negative: all.
	LoggedPerSecond int
	// Now is the clock, read once a Check. Nil: [time.Now].
	Now func() time.Time
}

// Authorizer decides whether a request may pass, see [Authorizer.Authorize].
type Authorizer struct {
	keys     KeyFinder
	hasher   apikey.Hasher
	limiter  Limiter
	blocker  Blocker
	uses     UseRecorder
	recorder Recorder
	policy   atomic.Pointer[policy]
	logger   *slog.Logger
	logged   atomic.Int64 // lines a second
	lines    [256]sampler // of denials, by apikey.Reason
	blocks   sampler      // of addresses that became blocked
	now      func() time.Time
	since    func(time.Time) time.Duration
}

// NewAuthorizer returns an Authorizer, or an error that names what is missing.
func NewAuthorizer(o AuthorizerOptions) (*Authorizer, error) {
	if o.Keys == nil || o.Limiter == nil || o.Blocker == nil {
		return nil, errors.New("authorizer: Keys, Limiter and Blocker must be set")
	}
	a := &Authorizer{
		keys: o.Keys, hasher: o.Hasher, limiter: o.Limiter, blocker: o.Blocker,
		uses: o.Uses, recorder: o.Recorder, logger: o.Logger, now: o.Now,
	}
	if a.logger == nil {
		a.logger = slog.Default()
	}
	a.since = func(t time.Time) time.Duration { return a.now().Sub(t) }
	if a.now == nil {
		a.now, a.since = time.Now, time.Since
	}
	a.SetLoggedPerSecond(o.LoggedPerSecond)
	for i := range a.lines {
		a.lines[i].most = &a.logged
	}
	a.blocks.most = &a.logged
	a.SetPolicy(o.Strict, o.Uncounted)
	return a, nil
}

// policy is what may change while Checks are decided.
type policy struct {
	strict  bool
	counted [256]bool // by apikey.Reason
}

// SetPolicy changes what [AuthorizerOptions] said of Strict and Uncounted, for
// all Checks that begin afterwards.
func (a *Authorizer) SetPolicy(strict bool, uncounted []apikey.Reason) {
	p := &policy{strict: strict}
	for _, reason := range CountedReasons() {
		p.counted[reason] = true
	}
	for _, reason := range uncounted {
		p.counted[reason] = false
	}
	a.policy.Store(p)
}

// CountedReasons lists the denials that count towards blocking an address,
// unless [AuthorizerOptions] say otherwise.
func CountedReasons() []apikey.Reason {
	return []apikey.Reason{
		apikey.ReasonMalformedKey, apikey.ReasonUnknownKey, apikey.ReasonDisabled, apikey.ReasonExpired,
		apikey.ReasonOrigin, apikey.ReasonAddress, apikey.ReasonScope, apikey.ReasonRateLimit,
	}
}

// Outcome is a decision and what a client may know of the limits behind it.
// The zero Outcome denies.
type Outcome struct {
	apikey.Decision
	// Limit is the state of the key's hourly limit, where it was consulted.
	Limit limit.Result
	// BlockedFor is for how long the address is still blocked.
	BlockedFor time.Duration
	// Counted says that a denial counted towards blocking the address.
	Counted bool
	// At is when it was decided.
	At time.Time
}

// Authorize decides one request, spends a call of the key's limit where it is
// allowed, and counts and logs a denial against the request's address. An
// error means that nothing could be decided, and only the outcome's At is
// meant; the request must not pass then.
func (a *Authorizer) Authorize(ctx context.Context, request *apikey.Request) (Outcome, error) {
	now := a.now()
	outcome, err := a.decide(ctx, request, now)
	if err != nil {
		return Outcome{At: now}, err
	}
	outcome.At = now
	if outcome.Reason == apikey.ReasonAllowed {
		outcome.Limit, err = a.limiter.Spend(ctx, outcome.Key, request.Cost, now)
		if err != nil {
			return Outcome{At: now}, fmt.Errorf("spending a call of key %d: %w", outcome.Key.ID, err)
		}
		limitOutcome(&outcome)
	}
	if a.recorder != nil && outcome.Key != nil {
		a.recorder.Record(outcome.Key.ID, outcome.Reason, now)
	}
	if outcome.Allowed() {
		if a.uses != nil && outcome.Key != nil {
			a.uses.Touch(outcome.Key.ID, now)
		}
		return outcome, nil
	}
	a.denied(ctx, request, &outcome)
	return outcome, nil
}

// Explain decides as Authorize does, but spends, counts and logs nothing.
func (a *Authorizer) Explain(ctx context.Context, request *apikey.Request) (Outcome, error) {
	now := a.now()
	outcome, err := a.decide(ctx, request, now)
	if err == nil && outcome.Reason == apikey.ReasonAllowed {
		outcome.Limit = a.limiter.Peek(outcome.Key, request.Cost, now)
		limitOutcome(&outcome)
	}
	outcome.At = now
	return outcome, err
}

// decide applies every rule but the hourly limit, which comes last so that a
// denied call spends nothing.
func (a *Authorizer) decide(ctx context.Context, request *apikey.Request, now time.Time) (Outcome, error) {
	if left, blocked := a.blocker.Blocked(request.Address, now); blocked {
		return Outcome{Decision: apikey.Decision{Reason: apikey.ReasonBlockedAddress}, BlockedFor: left}, nil
	}
	if !request.Credential.Present() {
		if request.Anonymous {
			return Outcome{Decision: apikey.Decision{Reason: apikey.ReasonAnonymous}}, nil
		}
		return Outcome{Decision: apikey.Decision{Reason: apikey.ReasonMissingKey}}, nil
	}
	secret, err := request.Credential.Secret()
	if err != nil { //nolint:nilerr // that it is malformed is the decision
		return Outcome{Decision: apikey.Decision{Reason: apikey.ReasonMalformedKey}}, nil
	}
	key, err := a.find(ctx, secret, now)
	if err != nil {
		return Outcome{}, err
	}
	if key == nil {
		return Outcome{Decision: apikey.Decision{Reason: apikey.ReasonUnknownKey}}, nil
	}
	request.Now = now
	if a.policy.Load().strict {
		request.Strict = true
	}
	return Outcome{Decision: apikey.Decide(key, request)}, nil
}

// find returns the key that a secret answers for, or nil.
func (a *Authorizer) find(ctx context.Context, secret apikey.Secret, now time.Time) (*apikey.Key, error) {
	for way := range a.hasher.Ways() {
		hash := a.hasher.HashBy(way, secret)
		key, err := a.keys.FindKey(ctx, hash)
		if err != nil && !errors.Is(err, apikey.ErrNotFound) {
			return nil, fmt.Errorf("finding a key: %w", err)
		}
		// The secret before a rotation is found for longer than it answers.
		if err == nil && key.Answers(&hash, now) {
			return key, nil
		}
	}
	return nil, nil //nolint:nilnil // that there is none is the decision
}

func limitOutcome(outcome *Outcome) {
	if !outcome.Limit.Allowed {
		outcome.Reason = apikey.ReasonRateLimit
	}
}

func (a *Authorizer) denied(ctx context.Context, request *apikey.Request, outcome *Outcome) {
	// A limiter that is full says nothing about the client, and a client whose
	// address is not known cannot be told from others.
	outcome.Counted = a.policy.Load().counted[outcome.Reason] && !outcome.Limit.Full && request.Address.IsValid()
	if outcome.Counted && a.blocker.Failed(request.Address, outcome.Reason, outcome.At) {
		a.logBlocked(ctx, request.Address, outcome.At)
	}
	a.logDenied(ctx, request, outcome)
}

func (a *Authorizer) logDenied(ctx context.Context, request *apikey.Request, outcome *Outcome) {
	if !a.logger.Enabled(ctx, slog.LevelInfo) {
		return
	}
	withheld, ok := a.lines[outcome.Reason].pass(outcome.At)
	if !ok {
		return
	}
	attrs := make([]slog.Attr, 0, 6)
	attrs = append(attrs,
		slog.String("reason", outcome.Reason.String()),
		slog.String("address", request.Address.String()),
		slog.Bool("counted", outcome.Counted))
	if outcome.Key != nil {
		attrs = append(attrs, slog.Int64("key_id", int64(outcome.Key.ID)))
	}
	if outcome.Limit.Full {
		attrs = append(attrs, slog.Bool("limiter_full", true))
	}
	a.logger.LogAttrs(ctx, slog.LevelInfo, "check denied", appendWithheld(attrs, withheld)...)
}

func (a *Authorizer) logBlocked(ctx context.Context, address netip.Addr, now time.Time) {
	if withheld, ok := a.blocks.pass(now); ok {
		a.logger.LogAttrs(ctx, slog.LevelWarn, "address blocked", appendWithheld([]slog.Attr{slog.String("address", address.String())}, withheld)...)
	}
}
