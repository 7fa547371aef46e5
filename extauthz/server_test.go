package extauthz

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// secretText returns the n-th of a fixed row of secrets.
func secretText(t testing.TB, n byte) string {
	t.Helper()
	secret, err := apikey.NewSecret(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

// keyMap finds keys in a map, or fails with err.
type keyMap struct {
	keys  map[apikey.Hash]*apikey.Key
	err   error
	finds int
}

func (m *keyMap) FindKey(_ context.Context, hash apikey.Hash) (*apikey.Key, error) {
	m.finds++
	if m.err != nil {
		return nil, m.err
	}
	if key, found := m.keys[hash]; found {
		return key, nil
	}
	return nil, fmt.Errorf("finding: %w", apikey.ErrNotFound)
}

func (m *keyMap) add(t testing.TB, text string, key apikey.Key) {
	t.Helper()
	secret, err := apikey.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	key.Hash = secret.Hash()
	m.keys[key.Hash] = &key
}

type touched map[apikey.KeyID]int

func (m touched) Touch(id apikey.KeyID, _ time.Time) { m[id]++ }

// bench is a server over real parts and a clock of its own.
type bench struct {
	*Server
	keys keyMap
	uses touched
	now  time.Time
	logs bytes.Buffer
}

func newBench(t testing.TB, o Options, ao AuthorizerOptions) *bench {
	t.Helper()
	b := &bench{keys: keyMap{keys: map[apikey.Hash]*apikey.Key{}}, uses: touched{}, now: time.Now()}
	limiter, err := limit.New(t.Context(), limit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := block.New(t.Context(), block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ao.Keys, ao.Uses, ao.Limiter, ao.Blocker = &b.keys, b.uses, limiter, table
	ao.Now = func() time.Time { return b.now }
	ao.Logger = slog.New(slog.NewTextHandler(&b.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Logger = ao.Logger
	authorizer, err := NewAuthorizer(ao)
	if err != nil {
		t.Fatal(err)
	}
	if b.Server, err = NewServer(authorizer, o); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) check(t testing.TB, request *authv3.CheckRequest) *authv3.CheckResponse {
	t.Helper()
	response, err := b.Check(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func reasonOf(r *authv3.CheckResponse) string {
	return r.GetDynamicMetadata().GetFields()[MetadataReason].GetStringValue()
}

// wantDenied checks a denial's status, code and challenge.
func wantDenied(t *testing.T, r *authv3.CheckResponse, httpStatus int, code, reason string) {
	t.Helper()
	denied := r.GetDeniedResponse()
	if denied == nil || r.GetStatus().GetCode() == int32(codes.OK) {
		t.Fatalf("not denied: %v", r)
	}
	var body problem
	if err := json.Unmarshal([]byte(denied.GetBody()), &body); err != nil {
		t.Fatal(err)
	}
	if int(denied.GetStatus().GetCode()) != httpStatus || body.Status != httpStatus || body.Code != code || reasonOf(r) != reason {
		t.Errorf("got %v %+v %s, want %d %s %s", denied.GetStatus().GetCode(), body, reasonOf(r), httpStatus, code, reason)
	}
	if got := headerOf(denied.GetHeaders(), "content-type"); got != "application/problem+json" {
		t.Errorf("content-type %q", got)
	}
	if got := headerOf(denied.GetHeaders(), "www-authenticate"); (got != "") != (httpStatus == 401) {
		t.Errorf("www-authenticate %q with status %d", got, httpStatus)
	}
}

func headerOf(headers []*corev3.HeaderValueOption, name string) string {
	for _, h := range headers {
		if h.GetHeader().GetKey() == name {
			return h.GetHeader().GetValue()
		}
	}
	return ""
}

func TestCheckAllows(t *testing.T) {
	b := newBench(t, Options{Sources: CredentialSources{Headers: []string{"api-key"}, QueryParameter: "key", Bearer: true}}, AuthorizerOptions{})
	good := secretText(t, 1)
	b.keys.add(t, good, apikey.Key{ID: 7, Name: "café 100%\tdone", OwnerName: "alice", RateLimitPerHour: 5000})
	for _, c := range []struct {
		name    string
		request *authv3.CheckRequest
		removed []string
	}{
		{"header", checkOf(false, "192.0.2.1", "/", pair{"api-key", good}), []string{"api-key", "x-api-key-metadata"}},
		{"query", checkOf(false, "192.0.2.1", "/?key="+good), []string{"api-key", "x-api-key-metadata"}},
		{"bearer", checkOf(false, "192.0.2.1", "/", pair{"authorization", "Bearer " + good}), []string{"api-key", "authorization", "x-api-key-metadata"}},
	} {
		r := b.check(t, c.request)
		ok := r.GetOkResponse()
		if ok == nil || r.GetStatus().GetCode() != int32(codes.OK) {
			t.Fatalf("%s: denied: %v", c.name, r)
		}
		for name, want := range map[string]string{
			"x-api-key-id": "7", "x-api-key-name": "caf%C3%A9 100%25%09done", "x-api-key-owner": "alice",
		} {
			if got := headerOf(ok.GetHeaders(), name); got != want {
				t.Errorf("%s: %s: got %q, want %q", c.name, name, got, want)
			}
		}
		for _, h := range ok.GetHeaders() {
			if h.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
				t.Errorf("%s: %s is not overwritten", c.name, h.GetHeader().GetKey())
			}
		}
		if !slices.Equal(ok.GetHeadersToRemove(), c.removed) || !slices.Equal(ok.GetQueryParametersToRemove(), []string{"key"}) {
			t.Errorf("%s: removed %v and %v", c.name, ok.GetHeadersToRemove(), ok.GetQueryParametersToRemove())
		}
		if got := headerOf(ok.GetResponseHeadersToAdd(), "ratelimit-policy"); got != `"hour";q=5000;w=3600` {
			t.Errorf("%s: policy %s", c.name, got)
		}
		fields := r.GetDynamicMetadata().GetFields()
		if fields["key_id"].GetStringValue() != "7" || fields["key_name"].GetStringValue() != "café 100%\tdone" || reasonOf(r) != "allowed" {
			t.Errorf("%s: metadata %v", c.name, fields)
		}
	}
	if b.uses[7] != 3 {
		t.Errorf("%d uses were recorded", b.uses[7])
	}
}

// An identity header without a value is removed, never left as the client
// forged it, and none is both set and removed.
func TestCheckRemovesEmptyIdentity(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 7, Name: "n"})
	ok := b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)})).GetOkResponse()
	if headerOf(ok.GetHeaders(), "x-api-key-owner") != "" || !slices.Contains(ok.GetHeadersToRemove(), "x-api-key-owner") {
		t.Errorf("set %v, removed %v", ok.GetHeaders(), ok.GetHeadersToRemove())
	}
	for _, h := range ok.GetHeaders() {
		if slices.Contains(ok.GetHeadersToRemove(), h.GetHeader().GetKey()) {
			t.Errorf("%s is both set and removed", h.GetHeader().GetKey())
		}
	}
	if len(ok.GetResponseHeadersToAdd()) != 0 {
		t.Errorf("a key without a limit tells of one: %v", ok.GetResponseHeadersToAdd())
	}
}

func TestCheckDenies(t *testing.T) {
	origin, err := apikey.ParseOriginPattern("https://app.example.io")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, Options{}, AuthorizerOptions{})
	web, cron := secretText(t, 1), secretText(t, 2)
	b.keys.add(t, web, apikey.Key{ID: 1, Name: "web", AllowedOrigins: []apikey.OriginPattern{origin}})
	b.keys.add(t, cron, apikey.Key{ID: 2, Name: "cron", AllowedIPs: []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32")}})
	wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/")), 401, "missing_key", "missing_key")
	if b.keys.finds != 0 {
		t.Error("the store was asked for no key")
	}
	malformed := b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", web + ","}))
	wantDenied(t, malformed, 401, "invalid_key", "malformed_key")
	if b.keys.finds != 0 {
		t.Error("the store was asked for a malformed key")
	}
	unknown := b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 3)}))
	wantDenied(t, unknown, 401, "invalid_key", "unknown_key")
	if malformed.GetDeniedResponse().String() != unknown.GetDeniedResponse().String() {
		t.Error("malformed and unknown keys are answered differently")
	}
	wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", web}, pair{"origin", "https://evil.example"})), 403, "origin_not_allowed", "origin_not_allowed")
	wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", cron})), 403, "address_not_allowed", "address_not_allowed")
	if r := b.check(t, checkOf(false, "203.0.113.10", "/", pair{"api-key", cron})); r.GetOkResponse() == nil {
		t.Errorf("denied: %v", r)
	}
	for _, secret := range []string{web, cron} {
		if strings.Contains(b.logs.String(), secret[5:15]) {
			t.Fatal("a key was logged")
		}
	}
	for _, want := range []string{"reason=unknown_key", "address=192.0.2.1", "key_id=1"} {
		if !strings.Contains(b.logs.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, b.logs.String())
		}
	}
}

func TestCheckLimits(t *testing.T) {
	for _, httpStatus := range []int{403, 429} {
		b := newBench(t, Options{LimitStatus: httpStatus}, AuthorizerOptions{})
		b.keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n", RateLimitPerHour: 3})
		request := checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)})
		for i := range 3 {
			ok := b.check(t, request).GetOkResponse()
			want := fmt.Sprintf(`"hour";r=%d;t=`, 2-i)
			if got := headerOf(ok.GetResponseHeadersToAdd(), "ratelimit"); !strings.HasPrefix(got, want) {
				t.Errorf("call %d: RateLimit %q, want %s…", i, got, want)
			}
		}
		r := b.check(t, request)
		wantDenied(t, r, httpStatus, "rate_limited", "rate_limited")
		headers := r.GetDeniedResponse().GetHeaders()
		// A limiter may round the hour up, never down.
		if got := headerOf(headers, "retry-after"); got != "3600" && got != "3601" {
			t.Errorf("Retry-After %q", got)
		}
		if got := headerOf(headers, "ratelimit"); got != `"hour";r=0;t=`+headerOf(headers, "retry-after") {
			t.Errorf("RateLimit %q", got)
		}
		b.now = b.now.Add(time.Hour + time.Second)
		if r := b.check(t, request); r.GetOkResponse() == nil {
			t.Errorf("still denied after an hour: %v", r)
		}
	}
}

// Ten counted failures in five minutes block an address for the rest of them,
// also from keys that are good, and no other address.
func TestCheckBlocks(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	good := checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)})
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n"})
	bad := checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 2)})
	for range 20 { // no attempts
		wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/")), 401, "missing_key", "missing_key")
	}
	for range 10 {
		if r := b.check(t, good); r.GetOkResponse() == nil {
			t.Fatalf("blocked too early: %v", r)
		}
		wantDenied(t, b.check(t, bad), 401, "invalid_key", "unknown_key")
		b.now = b.now.Add(10 * time.Second)
	}
	r := b.check(t, good)
	wantDenied(t, r, 403, "address_blocked", "address_blocked")
	if got := headerOf(r.GetDeniedResponse().GetHeaders(), "retry-after"); got != "200" && got != "201" {
		t.Errorf("Retry-After %q, want the rest of the window", got)
	}
	other := checkOf(false, "192.0.2.2", "/", pair{"api-key", secretText(t, 1)})
	if r := b.check(t, other); r.GetOkResponse() == nil {
		t.Errorf("another address is blocked: %v", r)
	}
	b.now = b.now.Add(201 * time.Second)
	if r := b.check(t, good); r.GetOkResponse() == nil {
		t.Errorf("still blocked after the window: %v", r)
	}
}

func TestUncountedReasonsDoNotBlock(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{Uncounted: []apikey.Reason{apikey.ReasonUnknownKey}})
	for range 30 {
		wantDenied(t, b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 2)})), 401, "invalid_key", "unknown_key")
	}
}

func TestExplainChangesNothing(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n", RateLimitPerHour: 1})
	explain := func(secret string) *authv3.CheckResponse {
		request := checkOf(false, "192.0.2.1", "/", pair{"api-key", secret})
		request.Attributes.ContextExtensions = map[string]string{ExplainExtension: "true"}
		return b.check(t, request)
	}
	for range 20 {
		if r := explain(secretText(t, 1)); reasonOf(r) != "allowed" {
			t.Fatalf("got %s", reasonOf(r))
		}
		if r := explain(secretText(t, 2)); reasonOf(r) != "unknown_key" {
			t.Fatalf("got %s", reasonOf(r))
		}
	}
	if b.logs.Len() > 0 || len(b.uses) > 0 {
		t.Error("an explanation was logged or recorded as a use")
	}
	request := checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)})
	if r := b.check(t, request); r.GetOkResponse() == nil {
		t.Errorf("an explanation spent a call: %v", r)
	}
	if r := explain(secretText(t, 1)); reasonOf(r) != "rate_limited" {
		t.Errorf("got %s", reasonOf(r))
	}
}

// A fault is a gRPC error, so that Envoy fails closed with its own status; it
// is no denial, costs nobody anything, and its cause stays in the log.
func TestFaultsAreErrors(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	b.keys.err = errors.New("disk on fire")
	request := checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)})
	for range 20 {
		response, err := b.Check(t.Context(), request)
		if response != nil || status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "fire") {
			t.Fatalf("got %v, %v", response, err)
		}
	}
	if !strings.Contains(b.logs.String(), "disk on fire") {
		t.Error("the cause was not logged")
	}
	b.keys.err = nil
	wantDenied(t, b.check(t, request), 401, "invalid_key", "unknown_key")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.keys.err = ctx.Err()
	if _, err := b.Check(ctx, request); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
}

func TestNewServerNamesWrongOptions(t *testing.T) {
	good := newBench(t, Options{}, AuthorizerOptions{}).authorizer
	for want, o := range map[string]Options{
		"at least one place": {Sources: CredentialSources{Headers: []string{}}},
		`"Api-Key"`:          {Sources: CredentialSources{Headers: []string{"Api-Key"}}},
		`"a b"`:              {Sources: CredentialSources{Headers: []string{"a b"}}},
		`"authorization"`:    {Sources: CredentialSources{Headers: []string{"authorization"}}},
		"once":               {Sources: CredentialSources{Headers: []string{"x-api-key-id"}}},
		"query parameter":    {Sources: CredentialSources{QueryParameter: "a=b"}},
		"client address":     {Address: ClientAddress{Mode: AddressHeader}},
		"trusted hops":       {Address: ClientAddress{Mode: AddressForwarded, TrustedHops: -1}},
		"limit status 418":   {LimitStatus: 418},
	} {
		if _, err := NewServer(good, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %s", err, want)
		}
	}
	if _, err := NewServer(nil, Options{}); err == nil {
		t.Error("a server without an authorizer was made")
	}
	if _, err := NewAuthorizer(AuthorizerOptions{}); err == nil {
		t.Error("an authorizer without parts was made")
	}
}

// Answers share what never varies; each may be sent while others are made.
func TestAnswersAreApart(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{Uncounted: CountedReasons()})
	keys := keyMap{keys: map[apikey.Hash]*apikey.Key{}}
	keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n", RateLimitPerHour: 1})
	b.authorizer.keys = lockedKeys{&sync.Mutex{}, &keys}
	b.authorizer.logger = slog.New(slog.DiscardHandler)
	b.authorizer.uses = nil
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 50 {
				response, err := b.Check(t.Context(), checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, byte(1+n%2))}))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := proto.Marshal(response); err != nil {
					t.Error(err)
				}
				retry := headerOf(response.GetDeniedResponse().GetHeaders(), "retry-after")
				if reasonOf(response) == "unknown_key" && retry != "" {
					t.Error("one answer has a header of another")
				}
			}
		})
	}
	wg.Wait()
}

// lockedKeys lets several goroutines search a keyMap, which counts.
type lockedKeys struct {
	*sync.Mutex
	keys *keyMap
}

func (l lockedKeys) FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error) {
	l.Lock()
	defer l.Unlock()
	return l.keys.FindKey(ctx, hash)
}
