package extauthz

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// IdentityHeaders name the headers that tell the upstream whose key it was.
// Each is overwritten or removed on every allowed request, so that none is the
// client's own.
type IdentityHeaders struct {
	KeyID   string // empty: "x-api-key-id"
	KeyName string // empty: "x-api-key-name"; percent-encoded beyond printable ASCII
	Owner   string // empty: "x-api-key-owner"
}

// Metadata fields of every answer, under envoy.filters.http.ext_authz. Their
// values are strings, since rate limit actions take no others.
const (
	MetadataKeyID   = "key_id"
	MetadataKeyName = "key_name"
	MetadataReason  = "reason"
)

// responder writes an [Outcome] as Envoy's CheckResponse.
type responder struct {
	identity   IdentityHeaders
	strip      []string // headers never passed on
	stripQuery []string
	denials    map[apikey.Reason]denial
}

// denial is what every client is told for a reason. Answers share its headers.
type denial struct {
	status  int
	grpc    codes.Code
	body    string
	headers []*corev3.HeaderValueOption
}

// problem is an RFC 9457 body. Its code is stable; clients may rely on it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// newDenials says what each reason looks like to a client. Keys that are
// malformed, unknown or deleted look alike, since the difference would help
// only somebody who guesses.
func newDenials(limitStatus int, sources CredentialSources) map[apikey.Reason]denial {
	type text struct {
		status       int
		code, detail string
	}
	invalid := text{http.StatusUnauthorized, "invalid_key", "The API key is not valid."}
	texts := map[apikey.Reason]text{
		apikey.ReasonNone:           {http.StatusForbidden, "denied", "The request is not allowed."},
		apikey.ReasonMissingKey:     {http.StatusUnauthorized, "missing_key", "The request carries no API key. Send one in " + describe(sources) + "."},
		apikey.ReasonMalformedKey:   invalid,
		apikey.ReasonUnknownKey:     invalid,
		apikey.ReasonOrigin:         {http.StatusForbidden, "origin_not_allowed", "The API key is not allowed from this origin."},
		apikey.ReasonAddress:        {http.StatusForbidden, "address_not_allowed", "The API key is not allowed from this address."},
		apikey.ReasonRateLimit:      {limitStatus, "rate_limited", "The API key has used up its calls of the last 60 minutes."},
		apikey.ReasonBlockedAddress: {http.StatusForbidden, "address_blocked", "Too many failed requests came from this address. Try again later."},
	}
	denials := make(map[apikey.Reason]denial, len(texts))
	for reason, t := range texts {
		body, err := json.Marshal(problem{Type: "about:blank", Title: http.StatusText(t.status), Status: t.status, Code: t.code, Detail: t.detail})
		if err != nil { // strings and numbers always marshal
			body = nil
		}
		d := denial{status: t.status, grpc: codes.PermissionDenied, body: string(body), headers: []*corev3.HeaderValueOption{
			overwrite("content-type", "application/problem+json"),
			overwrite("cache-control", "no-store"),
		}}
		if t.status == http.StatusUnauthorized {
			d.grpc, d.headers = codes.Unauthenticated, append(d.headers, challenges(sources)...)
		}
		denials[reason] = d
	}
	return denials
}

func (r *responder) respond(outcome *Outcome, bearerUsed bool) *authv3.CheckResponse {
	if outcome.Allowed() {
		return r.allow(outcome, bearerUsed)
	}
	return r.deny(outcome)
}

func (r *responder) allow(outcome *Outcome, bearerUsed bool) *authv3.CheckResponse {
	key := outcome.Key
	ok := &authv3.OkHttpResponse{
		HeadersToRemove:         r.strip,
		QueryParametersToRemove: r.stripQuery,
		ResponseHeadersToAdd:    limitHeaders(&outcome.Limit),
	}
	// The list that is shared by all answers has no room to grow in place.
	remove := func(name string) { ok.HeadersToRemove = append(slices.Clip(ok.HeadersToRemove), name) }
	if bearerUsed {
		remove("authorization")
	}
	set := func(name, value string) {
		if value == "" {
			remove(name) // never both set and removed: Envoy would drop the header
			return
		}
		ok.Headers = append(ok.Headers, overwrite(name, value))
	}
	set(r.identity.KeyID, strconv.FormatInt(int64(key.ID), 10))
	set(r.identity.KeyName, headerText(key.Name))
	set(r.identity.Owner, headerText(key.OwnerName))
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: metadata(outcome),
	}
}

func (r *responder) deny(outcome *Outcome) *authv3.CheckResponse {
	d, known := r.denials[outcome.Reason]
	if !known {
		d = r.denials[apikey.ReasonNone]
	}
	headers := slices.Clip(d.headers) // what is added is this answer's alone
	switch outcome.Reason {
	case apikey.ReasonRateLimit:
		headers = append(headers, limitHeaders(&outcome.Limit)...)
		headers = append(headers, overwrite("retry-after", seconds(max(outcome.Limit.Reset, time.Second))))
	case apikey.ReasonBlockedAddress:
		headers = append(headers, overwrite("retry-after", seconds(max(outcome.BlockedFor, time.Second))))
	}
	return &authv3.CheckResponse{
		Status: &rpcstatus.Status{Code: int32(d.grpc)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(d.status)},
			Headers: headers,
			Body:    d.body,
		}},
		DynamicMetadata: metadata(outcome),
	}
}

// challenges lists the ways to send a key (RFC 9110, 11.6.1).
func challenges(sources CredentialSources) []*corev3.HeaderValueOption {
	var all []*corev3.HeaderValueOption
	add := func(challenge string) {
		all = append(all, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "www-authenticate", Value: challenge},
			AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD,
		})
	}
	for _, name := range sources.Headers {
		add(`ApiKey realm="api", header="` + name + `"`)
	}
	if sources.QueryParameter != "" {
		add(`ApiKey realm="api", query="` + sources.QueryParameter + `"`)
	}
	if sources.Bearer {
		add(`Bearer realm="api"`)
	}
	return all
}

// limitHeaders tells the state of an hourly limit as structured fields
// (draft-ietf-httpapi-ratelimit-headers-10).
func limitHeaders(state *limit.Result) []*corev3.HeaderValueOption {
	if state.Limit == 0 {
		return nil
	}
	return []*corev3.HeaderValueOption{
		overwrite("ratelimit-policy", `"hour";q=`+strconv.FormatUint(uint64(state.Limit), 10)+`;w=3600`),
		overwrite("ratelimit", `"hour";r=`+strconv.FormatUint(uint64(state.Remaining), 10)+`;t=`+seconds(state.Reset)),
	}
}

// seconds writes a duration in whole seconds, rounded up: a client that waits
// so long finds its call allowed.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(d.Seconds())), 10)
}

// overwrite sets a header whatever it was, said explicitly: left out, the
// action would be to append.
func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// headerText percent-encodes what is not printable ASCII, and the percent
// sign, so that any name is one valid header value that decodes back.
func headerText(text string) string {
	const hex = "0123456789ABCDEF"
	plain := func(c byte) bool { return ' ' <= c && c <= '~' && c != '%' }
	i := 0
	for i < len(text) && plain(text[i]) {
		i++
	}
	if i == len(text) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

func metadata(outcome *Outcome) *structpb.Struct {
	fields := map[string]*structpb.Value{MetadataReason: structpb.NewStringValue(outcome.Reason.String())}
	if key := outcome.Key; key != nil {
		fields[MetadataKeyID] = structpb.NewStringValue(strconv.FormatInt(int64(key.ID), 10))
		fields[MetadataKeyName] = structpb.NewStringValue(key.Name)
	}
	return &structpb.Struct{Fields: fields}
}
