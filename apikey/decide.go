package apikey

import (
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Request is what one call shows of itself, as far as the rules look at it.
type Request struct {
	// Credential is the text sent as the key, unparsed. It is a secret.
	Credential Credential
	// Origin is the Origin header, or X-Origin where there is no Origin.
	Origin string
	// HasOrigin tells an empty origin header from none.
	HasOrigin bool
	// Address is the client's address in canonical form, see
	// [CanonicalAddress]. Invalid where it is not known.
	Address netip.Addr
	// Method and Path are the request's own; Path begins with a slash and may
	// carry a query.
	Method, Path string
	// Strict makes the request's key strict, whatever the key says.
	Strict bool
	// RequiredScope is the name of a scope that the route asks for. Empty:
	// none.
	RequiredScope string
	// Anonymous says that the route lets requests without a key pass.
	Anonymous bool
	// Cost is how many calls of the hourly limit the request takes. Zero: one.
	Cost uint32
	// Now is when the request is decided.
	Now time.Time
}

// Credential is what a request sends as its key, before it is known to be one.
// It prints as a placeholder.
type Credential struct {
	text      string
	present   bool
	ambiguous bool
}

// OneCredential is the credential of a request that sends text, once.
func OneCredential(text string) Credential { return Credential{text: text, present: true} }

// AmbiguousCredential is the credential of a request that sends several.
func AmbiguousCredential() Credential { return Credential{present: true, ambiguous: true} }

// Present reports whether the request sent any credential at all.
func (c Credential) Present() bool { return c.present }

// Secret parses the credential. It returns [ErrMalformedSecret] where there is
// none, more than one, or one that cannot be a secret.
func (c Credential) Secret() (Secret, error) {
	if !c.present || c.ambiguous {
		return Secret{}, ErrMalformedSecret
	}
	return ParseSecret(c.text)
}

// String returns a placeholder.
func (c Credential) String() string {
	if !c.present {
		return "[no API key]"
	}
	return redacted
}

// Format prints a placeholder whatever the verb.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// Reason says why a request was allowed or denied. The zero Reason denies.
type Reason uint8

// The reasons, in the order in which a Check finds them.
const (
	ReasonNone           Reason = iota // nothing was decided: denied
	ReasonBlockedAddress               // too many failures from the address
	ReasonMissingKey                   // the request sends no key
	ReasonMalformedKey                 // what it sends cannot be a key, or is more than one
	ReasonUnknownKey                   // no such key, or it was deleted
	ReasonDisabled                     // the key is paused
	ReasonExpired                      // the key has ended by itself
	ReasonOrigin                       // the origin is not among the key's
	ReasonAddress                      // the address is not among the key's
	ReasonScope                        // the key is not for this route
	ReasonRateLimit                    // the key's hourly limit is spent
	ReasonAllowed                      // every rule holds
	ReasonAnonymous                    // no key, on a route that needs none: allowed
)

var reasonTexts = [...]string{
	ReasonNone:           "undecided",
	ReasonBlockedAddress: "address_blocked",
	ReasonMissingKey:     "missing_key",
	ReasonMalformedKey:   "malformed_key",
	ReasonUnknownKey:     "unknown_key",
	ReasonDisabled:       "key_disabled",
	ReasonExpired:        "key_expired",
	ReasonOrigin:         "origin_not_allowed",
	ReasonAddress:        "address_not_allowed",
	ReasonScope:          "scope_not_allowed",
	ReasonRateLimit:      "rate_limited",
	ReasonAllowed:        "allowed",
	ReasonAnonymous:      "anonymous",
}

// Reasons lists every reason but [ReasonNone].
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasonTexts)-1)
	for r := range reasonTexts[1:] {
		all = append(all, Reason(r+1))
	}
	return all
}

// String returns the reason's stable name in logs, metrics and metadata.
func (r Reason) String() string {
	if int(r) >= len(reasonTexts) {
		return reasonTexts[ReasonNone]
	}
	return reasonTexts[r]
}

// Decision is the outcome of a request. The zero Decision denies.
type Decision struct {
	Reason Reason
	// Key is the key the request belongs to; nil where it named none.
	Key *Key
}

// Allowed reports whether the request may pass.
func (d Decision) Allowed() bool { return d.Reason == ReasonAllowed || d.Reason == ReasonAnonymous }

// Decide applies the rules of key to request, all but the hourly limit:
//
//   - The key must be enabled and not have expired at request.Now.
//   - A request with an origin header must name one of the key's origins.
//   - A request without one must come from one of the key's addresses.
//   - A strict key, or a strict request, asks for both.
//   - What the request is for must be within one of the key's scopes.
//
// An empty list passes. A request whose address is not known fails a list of
// addresses.
func Decide(key *Key, request *Request) Decision {
	if key == nil {
		return Decision{Reason: ReasonUnknownKey}
	}
	if key.Disabled {
		return Decision{Reason: ReasonDisabled, Key: key}
	}
	if key.Expired(request.Now) {
		return Decision{Reason: ReasonExpired, Key: key}
	}
	strict := key.Strict || request.Strict
	if (request.HasOrigin || strict) && len(key.AllowedOrigins) > 0 {
		if !request.HasOrigin || !originAllowed(key.AllowedOrigins, request.Origin) {
			return Decision{Reason: ReasonOrigin, Key: key}
		}
	}
	if (!request.HasOrigin || strict) && len(key.AllowedIPs) > 0 {
		if !addressAllowed(key.AllowedIPs, request.Address) {
			return Decision{Reason: ReasonAddress, Key: key}
		}
	}
	if !scopesAllow(key.Scopes, request) {
		return Decision{Reason: ReasonScope, Key: key}
	}
	return Decision{Reason: ReasonAllowed, Key: key}
}

func originAllowed(patterns []OriginPattern, header string) bool {
	origin, err := ParseOrigin(header)
	if err != nil {
		return false
	}
	for i := range patterns {
		if patterns[i].Matches(origin) {
			return true
		}
	}
	return false
}

func addressAllowed(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
