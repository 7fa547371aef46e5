package extauthz

import (
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/apikey"
)

// routed returns a Check of a route with these context extensions.
func routed(extensions map[string]string, method, path string, headers ...pair) *authv3.CheckRequest {
	check := checkOf(false, "192.0.2.1", path, headers...)
	check.Attributes.Request.Http.Method = method
	check.Attributes.ContextExtensions = extensions
	return check
}

// recorded counts decisions by key and reason.
type recorded map[apikey.KeyID]map[apikey.Reason]int

func (r recorded) Record(id apikey.KeyID, reason apikey.Reason, _ time.Time) {
	if r[id] == nil {
		r[id] = map[apikey.Reason]int{}
	}
	r[id][reason]++
}

func TestCheckPausedAndExpired(t *testing.T) {
	records := recorded{}
	b := newBench(t, Options{}, AuthorizerOptions{Recorder: records})
	paused, ending := secretText(t, 1), secretText(t, 2)
	b.keys.add(t, paused, apikey.Key{ID: 1, Name: "n", Disabled: true})
	b.keys.add(t, ending, apikey.Key{ID: 2, Name: "n", ExpiresAt: b.now.Add(time.Minute)})
	wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", paused})), 403, "key_disabled", "key_disabled")
	check := checkOf(false, "192.0.2.1", "/", pair{"api-key", ending})
	b.now = b.now.Add(time.Minute - 1)
	if r := b.check(t, check); r.GetOkResponse() == nil {
		t.Errorf("denied before its end: %v", r)
	}
	b.now = b.now.Add(1)
	wantDenied(t, b.check(t, check), 401, "key_expired", "key_expired")
	if records[1][apikey.ReasonDisabled] != 1 || records[2][apikey.ReasonAllowed] != 1 || records[2][apikey.ReasonExpired] != 1 {
		t.Errorf("recorded %v", records)
	}
}

// The secret before a rotation and the one after share one limit, until the
// grace is over.
func TestCheckRotated(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	before, after := secretText(t, 1), secretText(t, 2)
	old, err := apikey.ParseSecret(before)
	if err != nil {
		t.Fatal(err)
	}
	b.keys.add(t, after, apikey.Key{ID: 1, Name: "n", RateLimitPerHour: 4, PreviousHash: old.Hash(), PreviousUntil: b.now.Add(time.Minute)})
	for _, key := range b.keys.keys {
		b.keys.keys[old.Hash()] = key
	}
	for range 2 {
		for _, secret := range []string{before, after} {
			if r := b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", secret})); r.GetOkResponse() == nil {
				t.Fatalf("denied: %v", r)
			}
		}
	}
	wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", before})), 403, "rate_limited", "rate_limited")
	b.now = b.now.Add(time.Minute)
	wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", before})), 401, "invalid_key", "unknown_key")
	wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", after})), 403, "rate_limited", "rate_limited")
}

func TestCheckScopes(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	var scopes []apikey.Scope
	for _, text := range []string{"GET /v1/", "reports:read"} {
		scope, err := apikey.ParseScope(text)
		if err != nil {
			t.Fatal(err)
		}
		scopes = append(scopes, scope)
	}
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n", Scopes: scopes})
	key := pair{"api-key", secretText(t, 1)}
	reports := map[string]string{ScopeExtension: "reports:read"}
	for _, c := range []*authv3.CheckRequest{routed(nil, "GET", "/v1/a?b", key), routed(reports, "GET", "/v1/reports", key)} {
		if r := b.check(t, c); r.GetOkResponse() == nil {
			t.Errorf("denied: %v", r)
		}
	}
	for _, c := range []*authv3.CheckRequest{
		routed(nil, "POST", "/v1/a", key), routed(nil, "GET", "/v2/a", key), routed(nil, "GET", "/v1/../v2/a", key),
		routed(map[string]string{ScopeExtension: "reports:write"}, "GET", "/v1/a", key),
	} {
		wantDenied(t, b.check(t, c), 403, "scope_not_allowed", "scope_not_allowed")
	}
}

func TestCheckAnonymous(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	anonymous := map[string]string{AnonymousExtension: "true"}
	r := b.check(t, routed(anonymous, "GET", "/", pair{"x-api-key-id", "7"}))
	ok := r.GetOkResponse()
	if ok == nil || reasonOf(r) != "anonymous" || len(ok.GetHeaders()) != 0 {
		t.Fatalf("got %v", r)
	}
	// What a client forged must go.
	removed := map[string]bool{}
	for _, name := range ok.GetHeadersToRemove() {
		removed[name] = true
	}
	for _, name := range []string{"api-key", "x-api-key-id", "x-api-key-name", "x-api-key-owner", "x-api-key-metadata"} {
		if !removed[name] {
			t.Errorf("%s is not removed", name)
		}
	}
	// A key that is sent must be good all the same.
	wantDenied(t, b.check(t, routed(anonymous, "GET", "/", pair{"api-key", secretText(t, 1)})), 401, "invalid_key", "unknown_key")
	wantDenied(t, b.check(t, routed(map[string]string{AnonymousExtension: "false"}, "GET", "/")), 401, "missing_key", "missing_key")
}

func TestCheckCost(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n", RateLimitPerHour: 10})
	key := pair{"api-key", secretText(t, 1)}
	dear := routed(map[string]string{CostExtension: "4"}, "GET", "/", key)
	for _, left := range []string{"6", "2"} {
		r := b.check(t, dear)
		if got := headerOf(r.GetOkResponse().GetResponseHeadersToAdd(), "ratelimit"); got != `"hour";r=`+left+`;t=3600` && got != `"hour";r=`+left+`;t=3601` {
			t.Errorf("RateLimit %q, want r=%s", got, left)
		}
	}
	wantDenied(t, b.check(t, dear), 403, "rate_limited", "rate_limited")
	if r := b.check(t, routed(nil, "GET", "/", key)); r.GetOkResponse() == nil {
		t.Errorf("a cheap call is denied although there are 2 left: %v", r)
	}
}

// A route that asks for nonsense lets nothing pass.
func TestCheckBadRoute(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n"})
	_, err := b.Check(t.Context(), routed(map[string]string{CostExtension: "many"}, "GET", "/", pair{"api-key", secretText(t, 1)}))
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
}
