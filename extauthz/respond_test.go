package extauthz

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// wantAnswer builds from the generated types what a responder writes.
func wantAnswer(o *Options, outcome *Outcome, bearerUsed, grpc bool) *authv3.CheckResponse {
	overwrite := func(name, value string) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: name, Value: value},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}
	}
	seconds := func(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
	var limits []*corev3.HeaderValueOption
	if l := outcome.Limit; l.Limit > 0 {
		limits = append(limits,
			overwrite("ratelimit-policy", fmt.Sprintf(`"hour";q=%d;w=3600`, l.Limit)),
			overwrite("ratelimit", fmt.Sprintf(`"hour";r=%d;t=%s`, l.Remaining, seconds(l.Reset))))
	}
	fields := map[string]any{MetadataReason: outcome.Reason.String()}
	if key := outcome.Key; key != nil {
		fields[MetadataKeyID], fields[MetadataKeyName] = strconv.Itoa(int(key.ID)), key.Name
		if own := map[string]any{}; len(key.Metadata) > 0 {
			for name, value := range key.Metadata.Map() {
				own[name] = value
			}
			fields[MetadataKeyMetadata] = own
		}
	}
	metadata, err := structpb.NewStruct(fields)
	if err != nil {
		panic(err)
	}
	response := &authv3.CheckResponse{Status: &rpcstatus.Status{}, DynamicMetadata: metadata}
	if outcome.Allowed() {
		ok := &authv3.OkHttpResponse{HeadersToRemove: slices.Clone(o.Sources.Headers), ResponseHeadersToAdd: limits}
		if o.Sources.QueryParameter != "" {
			ok.QueryParametersToRemove = []string{o.Sources.QueryParameter}
		}
		if bearerUsed {
			ok.HeadersToRemove = append(ok.HeadersToRemove, "authorization")
		}
		encode := func(text, special string) string {
			var encoded strings.Builder
			for _, c := range []byte(text) {
				if c < ' ' || c > '~' || strings.Contains(special, string(rune(c))) {
					fmt.Fprintf(&encoded, "%%%02X", c)
				} else {
					encoded.WriteByte(c)
				}
			}
			return encoded.String()
		}
		identity := map[string]string{o.Identity.KeyID: "", o.Identity.KeyName: "", o.Identity.Owner: "", o.Identity.Metadata: ""}
		if key := outcome.Key; key != nil {
			var entries []string
			for _, entry := range key.Metadata {
				entries = append(entries, entry.Name+`="`+encode(entry.Value, "%\"\\")+`"`)
			}
			identity[o.Identity.KeyID], identity[o.Identity.Metadata] = strconv.Itoa(int(key.ID)), strings.Join(entries, ", ")
			identity[o.Identity.KeyName], identity[o.Identity.Owner] = encode(key.Name, "%"), encode(key.OwnerName, "%")
		}
		for name, value := range identity {
			if value == "" {
				ok.HeadersToRemove = append(ok.HeadersToRemove, name)
				continue
			}
			ok.Headers = append(ok.Headers, overwrite(name, value))
		}
		response.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: ok}
		return response
	}
	type text struct {
		status       int
		code, detail string
	}
	invalid := text{401, "invalid_key", "The API key is not valid."}
	t, known := map[apikey.Reason]text{
		apikey.ReasonMissingKey:     {401, "missing_key", "The request carries no API key. Send one in " + describe(o.Sources) + "."},
		apikey.ReasonMalformedKey:   invalid,
		apikey.ReasonUnknownKey:     invalid,
		apikey.ReasonDisabled:       {403, "key_disabled", "The API key is paused."},
		apikey.ReasonExpired:        {401, "key_expired", "The API key has expired."},
		apikey.ReasonScope:          {403, "scope_not_allowed", "The API key is not allowed to do this."},
		apikey.ReasonOrigin:         {403, "origin_not_allowed", "The API key is not allowed from this origin."},
		apikey.ReasonAddress:        {403, "address_not_allowed", "The API key is not allowed from this address."},
		apikey.ReasonRateLimit:      {o.LimitStatus, "rate_limited", "The API key has used up its calls of the last 60 minutes."},
		apikey.ReasonBlockedAddress: {403, "address_blocked", "Too many failed requests came from this address. Try again later."},
	}[outcome.Reason]
	if !known {
		t = text{403, "denied", "The request is not allowed."}
	}
	denied := &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(t.status)},
		Headers: []*corev3.HeaderValueOption{overwrite("content-type", "application/problem+json"), overwrite("cache-control", "no-store")},
		Body:    fmt.Sprintf(`{"type":"about:blank","title":%q,"status":%d,"code":%q,"detail":%q}`, http.StatusText(t.status), t.status, t.code, t.detail),
	}
	response.Status.Code = int32(codes.PermissionDenied)
	if outcome.Reason == apikey.ReasonRateLimit {
		response.Status.Code = int32(codes.ResourceExhausted)
	}
	if t.status == 401 {
		response.Status.Code = int32(codes.Unauthenticated)
		for _, challenge := range challenges(o.Sources) {
			denied.Headers = append(denied.Headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "www-authenticate", Value: challenge}})
		}
	}
	if grpc {
		denied.Body, denied.Headers[0] = t.detail, overwrite("grpc-status", strconv.Itoa(int(response.GetStatus().GetCode())))
	}
	switch outcome.Reason {
	case apikey.ReasonRateLimit:
		denied.Headers = append(append(denied.Headers, limits...), overwrite("retry-after", seconds(max(outcome.Limit.Reset, time.Second))))
	case apikey.ReasonBlockedAddress:
		denied.Headers = append(denied.Headers, overwrite("retry-after", seconds(max(outcome.BlockedFor, time.Second))))
	}
	response.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied}
	return response
}

// For every reason and option, the bytes of an answer are those of the
// generated types, but for the order of what has none.
func TestAnswersEqualGenerated(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{})
	reasons := append(apikey.Reasons(), apikey.ReasonNone, apikey.Reason(200))
	var a answer
	compare := func(rt *rapid.T, reason apikey.Reason) {
		o := Options{
			Sources: CredentialSources{
				Headers:        rapid.SampledFrom([][]string{nil, {}, {"api-key"}, {"x-key", "x-" + strings.Repeat("k", 200)}}).Draw(rt, "headers"),
				QueryParameter: rapid.SampledFrom([]string{"", "key"}).Draw(rt, "query"),
				Bearer:         true,
			},
			LimitStatus: rapid.SampledFrom([]int{0, 403, 429}).Draw(rt, "status"),
		}
		server, err := NewServer(b.authorizer, o)
		if err != nil {
			rt.Fatal(err)
		}
		o.setDefaults()
		text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`[ -~]{0,300}`))
		outcome := Outcome{
			Decision:   apikey.Decision{Reason: reason},
			BlockedFor: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(rt, "blocked")),
			Limit: limit.Result{
				Limit:     rapid.Uint32().Draw(rt, "limit"),
				Remaining: rapid.Uint32().Draw(rt, "remaining"),
				Reset:     time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(rt, "reset")),
			},
		}
		if outcome.Reason == apikey.ReasonAllowed || outcome.Reason != apikey.ReasonAnonymous && rapid.Bool().Draw(rt, "key") {
			outcome.Key = &apikey.Key{ID: apikey.KeyID(rapid.Int64Min(1).Draw(rt, "id")), Name: text.Draw(rt, "name"), OwnerName: text.Draw(rt, "owner")}
			for i := range rapid.IntRange(0, 3).Draw(rt, "metadata") {
				outcome.Key.Metadata = append(outcome.Key.Metadata, apikey.MetadataEntry{Name: "n" + strconv.Itoa(i), Value: text.Draw(rt, "value")})
			}
		}
		bearerUsed := rapid.Bool().Draw(rt, "bearer")
		toGRPC := rapid.Bool().Draw(rt, "grpc")
		a = a[:0]
		server.responder.respond(&a, &outcome, bearerUsed, toGRPC)
		got := &authv3.CheckResponse{}
		if err := proto.Unmarshal(a, got); err != nil {
			rt.Fatal(err)
		}
		want := wantAnswer(&o, &outcome, bearerUsed, toGRPC)
		for _, r := range []*authv3.CheckResponse{got, want} {
			if ok := r.GetOkResponse(); ok != nil {
				slices.Sort(ok.HeadersToRemove)
				slices.SortFunc(ok.Headers, func(a, b *corev3.HeaderValueOption) int {
					return strings.Compare(a.GetHeader().GetKey(), b.GetHeader().GetKey())
				})
			}
		}
		if !proto.Equal(got, want) {
			rt.Fatalf("got  %v\nwant %v", got, want)
		}
		if n := proto.Size(want); len(a) != n { // no length takes more bytes than it must
			rt.Fatalf("%d bytes, the generated type's are %d", len(a), n)
		}
	}
	for _, reason := range reasons {
		t.Run(reason.String(), func(t *testing.T) { rapid.Check(t, func(rt *rapid.T) { compare(rt, reason) }) })
	}
}

// A field of any length is written as the generated types write it.
func TestAnswerFieldLengths(t *testing.T) {
	for _, n := range []int{1, 127, 128, 129, 16_383, 16_384, 100_000} {
		body := strings.Repeat("x", n)
		var a answer
		outer := a.open(fieldDenied)
		inner := a.open(fieldDeniedBody)
		a.addString(body)
		a.shut(inner)
		a.shut(outer)
		want := wireOf(t, &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Body: body}}})
		if !bytes.Equal(a, want) {
			t.Errorf("a body of %d bytes is written otherwise", n)
		}
	}
}
