package extauthz

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

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
	// Metadata carries the key's metadata as a dictionary of strings
	// (RFC 9651), percent-encoded likewise. Empty: "x-api-key-metadata".
	Metadata string
}

// Metadata fields of every answer, under envoy.filters.http.ext_authz. Their
// values are strings, since rate limit actions take no others.
const (
	MetadataKeyID   = "key_id"
	MetadataKeyName = "key_name"
	MetadataReason  = "reason"
	// MetadataKeyMetadata is a struct of the key's own metadata.
	MetadataKeyMetadata = "key_metadata"
)

// responder writes an [Outcome] as Envoy's CheckResponse, from pieces that are
// written once where nothing varies.
type responder struct {
	allowed  []byte       // the status of what is allowed
	removed  []byte       // fields of an OkHttpResponse: what is never passed on
	bearer   []byte       // the same, of a key that came as a bearer token
	identity [4]identity  // id, name, owner, metadata
	ok, no   limitHeaders // how each kind of answer tells of a limit
	retry    header
	denials  map[apikey.Reason]denial
	toGRPC   map[apikey.Reason]denial // the same, told to gRPC clients
}

// identity is a header that tells whose key it was.
type identity struct {
	header
	remove []byte // the field that removes it
}

// limitHeaders tell the state of an hourly limit as structured fields
// (draft-ietf-httpapi-ratelimit-headers-10).
type limitHeaders struct{ policy, state header }

// denial is what every client is told for a reason.
type denial struct {
	status []byte // a field of the CheckResponse
	fields []byte // of its DeniedHttpResponse
}

// problem is an RFC 9457 body. Its code is stable; clients may rely on it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func newResponder(o *Options) responder {
	var status, removed, bearer answer
	status.shut(status.open(fieldStatus)) // code 0 is OK
	for _, name := range o.Sources.Headers {
		removed.text(fieldOKRemove, name)
	}
	if name := o.Sources.QueryParameter; name != "" {
		removed.text(fieldOKRemoveQuery, name)
	}
	if o.RemoveUnderscored {
		for _, name := range underscored(o.Identity.names()) {
			removed.text(fieldOKRemove, name)
		}
	}
	bearer.text(fieldOKRemove, "authorization")
	r := responder{
		allowed: status,
		removed: removed,
		bearer:  bearer,
		ok:      newLimitHeaders(fieldOKResponseHeaders),
		no:      newLimitHeaders(fieldDeniedHeaders),
		retry:   newHeader(fieldDeniedHeaders, "retry-after"),
		denials: newDenials(o.LimitStatus, o.Sources, false),
		toGRPC:  newDenials(o.LimitStatus, o.Sources, true),
	}
	for i, name := range o.Identity.names() {
		var remove answer
		remove.text(fieldOKRemove, name)
		r.identity[i] = identity{newHeader(fieldOKHeaders, name), remove}
	}
	return r
}

func newLimitHeaders(list protowire.Number) limitHeaders {
	return limitHeaders{newHeader(list, "ratelimit-policy"), newHeader(list, "ratelimit")}
}

// newDenials says what each reason looks like to a client. Keys that are
// malformed, unknown or deleted look alike, since the difference would help
// only somebody who guesses.
//
// Envoy makes a trailer of a body's text for gRPC clients, and the code of
// grpc-status, which it would else derive from the HTTP status: from 429 one
// that says to try again at once.
func newDenials(limitStatus int, sources CredentialSources, toGRPC bool) map[apikey.Reason]denial {
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
		apikey.ReasonDisabled:       {http.StatusForbidden, "key_disabled", "The API key is paused."},
		apikey.ReasonExpired:        {http.StatusUnauthorized, "key_expired", "The API key has expired."},
		apikey.ReasonScope:          {http.StatusForbidden, "scope_not_allowed", "The API key is not allowed to do this."},
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
		code := codes.PermissionDenied
		switch {
		case t.status == http.StatusUnauthorized:
			code = codes.Unauthenticated
		case reason == apikey.ReasonRateLimit:
			code = codes.ResourceExhausted
		}
		var status, fields answer
		at := status.open(fieldStatus)
		status.number(fieldStatusCode, int(code))
		status.shut(at)
		at = fields.open(fieldDeniedStatus)
		fields.number(fieldStatusCode, t.status)
		fields.shut(at)
		if toGRPC {
			fields.text(fieldDeniedBody, t.detail)
			fields.overwrite(fieldDeniedHeaders, "grpc-status", strconv.Itoa(int(code)))
		} else {
			fields.text(fieldDeniedBody, string(body))
			fields.overwrite(fieldDeniedHeaders, "content-type", "application/problem+json")
		}
		fields.overwrite(fieldDeniedHeaders, "cache-control", "no-store")
		if code == codes.Unauthenticated {
			for _, challenge := range challenges(sources) {
				fields.append(fieldDeniedHeaders, "www-authenticate", challenge)
			}
		}
		denials[reason] = denial{status, fields}
	}
	return denials
}

// respond adds the answer for an outcome to a, which must be empty.
func (r *responder) respond(a *answer, outcome *Outcome, bearerUsed, grpc bool) {
	switch {
	case outcome.Allowed():
		r.allow(a, outcome, bearerUsed)
	case grpc:
		r.deny(a, outcome, r.toGRPC)
	default:
		r.deny(a, outcome, r.denials)
	}
	at := a.open(fieldMetadata)
	if key := outcome.Key; key != nil {
		entry := a.openEntry(MetadataKeyID)
		a.addInt(int64(key.ID))
		a.shutEntry(entry)
		a.entry(MetadataKeyName, key.Name)
		a.metadata(key.Metadata)
	}
	a.entry(MetadataReason, outcome.Reason.String())
	a.shut(at)
}

func (r *responder) allow(a *answer, outcome *Outcome, bearerUsed bool) {
	a.add(r.allowed)
	at := a.open(fieldOK)
	a.add(r.removed)
	if bearerUsed {
		a.add(r.bearer)
	}
	r.identify(a, outcome.Key)
	a.limit(&r.ok, &outcome.Limit)
	a.shut(at)
}

// identify says whose key it was. Of a call without a key, nothing that its
// client says may remain.
func (r *responder) identify(a *answer, key *apikey.Key) {
	if key == nil {
		for i := range r.identity {
			a.add(r.identity[i].remove)
		}
		return
	}
	id := a.openHeader(r.identity[0].header)
	a.addInt(int64(key.ID))
	a.shutHeader(id)
	a.identify(&r.identity[1], key.Name)
	a.identify(&r.identity[2], key.OwnerName)
	if len(key.Metadata) == 0 {
		a.add(r.identity[3].remove)
		return
	}
	at := a.openHeader(r.identity[3].header)
	a.addDictionary(key.Metadata)
	a.shutHeader(at)
}

// metadata adds a key's own metadata as a Struct within the Struct.
func (a *answer) metadata(metadata apikey.Metadata) {
	if len(metadata) == 0 {
		return
	}
	entry := a.open(fieldStructFields)
	a.text(fieldEntryName, MetadataKeyMetadata)
	value := a.open(fieldEntryValue)
	inner := a.open(fieldValueStruct)
	for i := range metadata {
		a.entry(metadata[i].Name, metadata[i].Value)
	}
	a.shut(inner)
	a.shut(value)
	a.shut(entry)
}

// identify sets or removes an identity header, never both: Envoy would drop it.
func (a *answer) identify(i *identity, text string) {
	if text == "" {
		a.add(i.remove)
		return
	}
	at := a.openHeader(i.header)
	a.addHeaderText(text)
	a.shutHeader(at)
}

func (r *responder) deny(a *answer, outcome *Outcome, denials map[apikey.Reason]denial) {
	d, known := denials[outcome.Reason]
	if !known {
		d = denials[apikey.ReasonNone]
	}
	a.add(d.status)
	at := a.open(fieldDenied)
	a.add(d.fields)
	switch outcome.Reason {
	case apikey.ReasonRateLimit:
		a.limit(&r.no, &outcome.Limit)
		a.retryAfter(r.retry, outcome.Limit.Reset)
	case apikey.ReasonBlockedAddress:
		a.retryAfter(r.retry, outcome.BlockedFor)
	}
	a.shut(at)
}

func (a *answer) retryAfter(h header, d time.Duration) {
	at := a.openHeader(h)
	a.addInt(seconds(max(d, time.Second)))
	a.shutHeader(at)
}

// limit tells the state of an hourly limit.
func (a *answer) limit(h *limitHeaders, state *limit.Result) {
	if state.Limit == 0 {
		return
	}
	at := a.openHeader(h.policy)
	a.addString(`"hour";q=`)
	a.addInt(int64(state.Limit))
	a.addString(`;w=3600`)
	a.shutHeader(at)
	at = a.openHeader(h.state)
	a.addString(`"hour";r=`)
	a.addInt(int64(state.Remaining))
	a.addString(`;t=`)
	a.addInt(seconds(state.Reset))
	a.shutHeader(at)
}

// challenges lists the ways to send a key (RFC 9110, 11.6.1).
func challenges(sources CredentialSources) []string {
	var all []string
	for _, name := range sources.Headers {
		all = append(all, `ApiKey realm="api", header="`+name+`"`)
	}
	if sources.QueryParameter != "" {
		all = append(all, `ApiKey realm="api", query="`+sources.QueryParameter+`"`)
	}
	if sources.Bearer {
		all = append(all, `Bearer realm="api"`)
	}
	return all
}

// seconds counts a duration in whole seconds, rounded up: a client that waits
// so long finds its call allowed.
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// addHeaderText adds a text, percent-encoding what is not printable ASCII and
// the percent sign, so that any name is one valid header value that decodes
// back.
func (a *answer) addHeaderText(text string) { a.addEncoded(text, "%") }

// addDictionary adds metadata as a dictionary of strings (RFC 9651, 3.2). What
// a string would have to escape is percent-encoded like the rest.
func (a *answer) addDictionary(metadata apikey.Metadata) {
	for i := range metadata {
		if i > 0 {
			a.addString(", ")
		}
		a.addString(metadata[i].Name)
		a.addString(`="`)
		a.addEncoded(metadata[i].Value, "%\"\\")
		a.addString(`"`)
	}
}

// addEncoded adds a text, percent-encoding these characters and what is not
// printable ASCII.
func (a *answer) addEncoded(text, special string) {
	const hex = "0123456789ABCDEF"
	b := *a
	for i := range len(text) {
		if c := text[i]; ' ' <= c && c <= '~' && strings.IndexByte(special, c) < 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	*a = b
}
