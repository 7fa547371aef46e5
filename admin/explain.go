package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// ExplainRequest is a request that might be made with a key.
type ExplainRequest struct {
	Method string  `json:"method,omitempty" maxLength:"32" doc:"Absent: GET." example:"GET"`
	Path   string  `json:"path,omitempty" maxLength:"2000" doc:"With its query, if any. Absent: /." example:"/v1/tokens/"`
	Origin *string `json:"origin,omitempty" nullable:"true" maxLength:"300" doc:"The Origin header. Absent or null: the request has none." example:"https://app.example.io"`
	IP     string  `json:"ip,omitempty" maxLength:"64" doc:"The address that the request comes from. Absent: it is not known." example:"203.0.113.10"`
	Scope  string  `json:"scope,omitempty" maxLength:"200" doc:"The scope that the route asks for. Absent: none." example:"reports:read"`
}

// Explanation is what would become of a request, and why.
type Explanation struct {
	Allowed bool          `json:"allowed"`
	Reason  string        `json:"reason" doc:"As Checks log it: allowed, or that of the first rule that fails."`
	Status  int           `json:"status" doc:"The HTTP status of the answer, 200 for an allowed request."`
	Steps   []ExplainStep `json:"steps" nullable:"false" doc:"Every rule, in the order in which a Check applies them."`
	Limit   LimitInfo     `json:"limit"`
}

// ExplainStep is what one rule says.
type ExplainStep struct {
	Rule    string `json:"rule" enum:"block,state,expiry,origin,address,scope,limit"`
	Outcome string `json:"outcome" enum:"pass,fail,skip" doc:"skip: the rule does not apply to the request."`
	Detail  string `json:"detail" doc:"For people. It may be reworded."`
}

func registerExplain(a *api, s *service) {
	register(a, operation{
		id: "explain", method: http.MethodPost, path: a.keys + "{key_id}/explain/", summary: "What would become of a request", session: true,
		description: "Applies every rule to a request that is not made: it costs nothing and counts nowhere.", codes: []string{CodeNotFound},
	}, func(ctx context.Context, request *keyInput[ExplainRequest]) (*answer[Explanation], error) {
		return answered(s.explain(ctx, callerFrom(ctx), apikey.KeyID(request.KeyID), &request.Body))
	})
}

func (s *service) explain(ctx context.Context, by caller, id apikey.KeyID, request *ExplainRequest) (Explanation, error) {
	key, err := s.store.Key(ctx, by.sees(), id)
	if err != nil {
		return Explanation{}, err
	}
	now := s.now()
	asked, err := askedOf(request, now)
	if err != nil {
		return Explanation{}, err
	}
	asked.Strict = s.policy.Load().strict
	e := explainer{key: key, request: asked}
	if err := s.explainBlock(ctx, &e, now); err != nil {
		return Explanation{}, err
	}
	e.rules()
	e.limit(s.limits, now)
	if e.reason == apikey.ReasonNone {
		e.reason = apikey.ReasonAllowed
	}
	return Explanation{
		Allowed: e.reason == apikey.ReasonAllowed, Reason: e.reason.String(), Status: s.statusOf(e.reason), Steps: e.steps, Limit: s.limitOf(key, now),
	}, nil
}

// askedOf returns the request that a Check would see.
func askedOf(request *ExplainRequest, now time.Time) (*apikey.Request, error) {
	asked := &apikey.Request{Method: request.Method, Path: request.Path, RequiredScope: request.Scope, Now: now}
	if asked.Method == "" {
		asked.Method = http.MethodGet
	}
	if asked.Path == "" {
		asked.Path = "/"
	}
	if !strings.HasPrefix(asked.Path, "/") {
		return nil, invalidField("path", "expected one that begins with a slash")
	}
	if request.Scope != "" && !apikey.ValidScopeName(request.Scope) {
		return nil, invalidField("scope", "expected a name such as reports:read")
	}
	if request.Origin != nil {
		asked.Origin, asked.HasOrigin = *request.Origin, true
	}
	if request.IP != "" {
		addr, err := netip.ParseAddr(request.IP)
		if err != nil || addr.Zone() != "" {
			return nil, invalidField("ip", "expected an IPv4 or IPv6 address")
		}
		asked.Address = apikey.CanonicalAddress(addr)
	}
	return asked, nil
}

// statusOf returns the status that a Check answers with.
func (s *service) statusOf(reason apikey.Reason) int {
	switch reason {
	case apikey.ReasonAllowed:
		return http.StatusOK
	case apikey.ReasonExpired:
		return http.StatusUnauthorized
	case apikey.ReasonRateLimit:
		return s.limitStatus
	default:
		return http.StatusForbidden
	}
}

// explainer applies rules one by one.
type explainer struct {
	key     *apikey.Key
	request *apikey.Request
	steps   []ExplainStep
	reason  apikey.Reason // of the first rule that failed, if any
}

func (e *explainer) add(rule, outcome, detail string, reason apikey.Reason) {
	e.steps = append(e.steps, ExplainStep{rule, outcome, detail})
	if outcome == outcomeFail && e.reason == apikey.ReasonNone {
		e.reason = reason
	}
}

const (
	outcomePass = "pass"
	outcomeFail = "fail"
	outcomeSkip = "skip"
)

func (s *service) explainBlock(ctx context.Context, e *explainer, now time.Time) error {
	addr := e.request.Address
	if s.blocks == nil || !addr.IsValid() {
		e.add("block", outcomeSkip, "The address is not known.", 0)
		return nil
	}
	blocked, err := s.blocks.ListBlocks(ctx)
	if err != nil {
		return fmt.Errorf("listing blocked addresses: %w", err)
	}
	for _, block := range blocked {
		if block.Prefix.Contains(addr) && now.Before(block.Until) {
			e.add("block", outcomeFail, "The address failed too often and is blocked until "+block.Until.UTC().Format(time.RFC3339)+".", apikey.ReasonBlockedAddress)
			return nil
		}
	}
	e.add("block", outcomePass, "The address is not blocked.", 0)
	return nil
}

// rules applies what [apikey.Decide] does, each rule by itself: to a key that
// has no other.
func (e *explainer) rules() {
	key, request := e.key, e.request
	e.rule("state", &apikey.Key{Disabled: key.Disabled}, true, "The key is enabled.", "The key is paused.")
	e.rule("expiry", &apikey.Key{ExpiresAt: key.ExpiresAt}, !key.ExpiresAt.IsZero(), "The key has not expired.", "The key has expired.", "The key does not expire.")
	strict := key.Strict || request.Strict
	switch {
	case len(key.AllowedOrigins) == 0:
		e.add("origin", outcomeSkip, "The key lists no origins: any will do.", 0)
	case !request.HasOrigin && !strict:
		e.add("origin", outcomeSkip, "The request names no origin, so its address is checked instead.", 0)
	default:
		failed := "The origin is not among the key's."
		if !request.HasOrigin {
			failed = "The request names no origin, and the key is strict."
		}
		e.rule("origin", &apikey.Key{AllowedOrigins: key.AllowedOrigins, Strict: strict}, true, "The origin is among the key's.", failed)
	}
	switch {
	case len(key.AllowedIPs) == 0:
		e.add("address", outcomeSkip, "The key lists no addresses: any will do.", 0)
	case request.HasOrigin && !strict:
		e.add("address", outcomeSkip, "The request names an origin, so its address is not checked.", 0)
	default:
		e.rule("address", &apikey.Key{AllowedIPs: key.AllowedIPs, Strict: strict}, true, "The address is among the key's.", "The address is not among the key's.")
	}
	e.rule("scope", &apikey.Key{Scopes: key.Scopes}, len(key.Scopes) > 0, "The request is within the key's scopes.", "The request is not within the key's scopes.",
		"The key has no scopes: it may be used for everything.")
}

// rule applies a key's one rule, if it has it.
func (e *explainer) rule(name string, key *apikey.Key, applies bool, passed, failed string, skipped ...string) {
	if !applies {
		e.add(name, outcomeSkip, strings.Join(skipped, " "), 0)
		return
	}
	if decision := apikey.Decide(key, e.request); decision.Reason != apikey.ReasonAllowed {
		e.add(name, outcomeFail, failed, decision.Reason)
		return
	}
	e.add(name, outcomePass, passed, 0)
}

func (e *explainer) limit(limits Limits, now time.Time) {
	if limits == nil || e.key.RateLimitPerHour == 0 {
		e.add("limit", outcomeSkip, "The key has no hourly limit.", 0)
		return
	}
	state := limits.LimitState(e.key, now)
	if state.Remaining == 0 {
		e.add("limit", outcomeFail, fmt.Sprintf("All %d calls of the last 60 minutes are used; the next is allowed in %s.", state.Limit, state.Returns.Round(time.Second)), apikey.ReasonRateLimit)
		return
	}
	e.add("limit", outcomePass, fmt.Sprintf("%d of %d calls are left.", state.Remaining, state.Limit), 0)
}
