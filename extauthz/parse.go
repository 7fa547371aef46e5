package extauthz

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/tokenkithq/authz/apikey"
)

// CredentialSources say where a request may carry its key. Headers are looked
// at first, then the query parameter, then a bearer token; a key in two places
// of the first two kinds is ambiguous and refused.
type CredentialSources struct {
	// Headers are the names of headers, in lower case. Nil: "api-key".
	Headers []string
	// QueryParameter is the name of a query parameter. Empty: none.
	QueryParameter string
	// Bearer admits "Authorization: Bearer <key>" in a request that carries
	// no key elsewhere.
	Bearer bool
}

// AddressMode says where a client's address is read from.
type AddressMode uint8

// The address modes.
const (
	// AddressPeer is the address of the connection to Envoy. Behind another
	// proxy it is that proxy's.
	AddressPeer AddressMode = iota
	// AddressHeader is a header that Envoy itself sets on every request,
	// overwriting what the client sent.
	AddressHeader
	// AddressForwarded is the x-forwarded-for entry that the outermost of a
	// number of trusted proxies wrote; with fewer entries it is the peer.
	AddressForwarded
)

// ClientAddress says how to find a client's address.
type ClientAddress struct {
	Mode AddressMode
	// Header is the header's name in lower case, for AddressHeader.
	Header string
	// TrustedHops is how many proxies stand before Envoy, for
	// AddressForwarded: the address is entry TrustedHops+1 from the right.
	TrustedHops int
}

// parser reads an [apikey.Request] from a [view].
type parser struct {
	sources CredentialSources
	address ClientAddress
	wanted  wanted
	// The places of what it looks at.
	credentials                            []int
	authorization, origin, xOrigin, client int
	contentType                            int
	explain, anonymous, scope, cost        int
	requestID                              int // negative: not looked at
}

// parsed is a request and what else an answer depends on.
type parsed struct {
	apikey.Request
	bearerUsed bool // must be taken from the request on its way upstream
	grpc       bool // the client speaks gRPC
	explain    bool // nothing is to be spent, counted or logged
}

func newParser(sources CredentialSources, address ClientAddress) parser {
	p := parser{sources: sources, address: address, requestID: -1}
	headers := &p.wanted.headers
	for _, name := range sources.Headers {
		p.credentials = append(p.credentials, headers.place(name))
	}
	if sources.Bearer {
		p.authorization = headers.place("authorization")
	}
	p.origin, p.xOrigin = headers.place("origin"), headers.place("x-origin")
	switch address.Mode {
	case AddressHeader:
		p.client = headers.place(address.Header)
	case AddressForwarded:
		p.client = headers.place("x-forwarded-for")
	}
	p.contentType = headers.place("content-type")
	extensions := &p.wanted.extensions
	p.explain, p.anonymous = extensions.place(ExplainExtension), extensions.place(AnonymousExtension)
	p.scope, p.cost = extensions.place(ScopeExtension), extensions.place(CostExtension)
	return p
}

// observeRequests reads what only observers look at.
func (p *parser) observeRequests() {
	p.requestID = p.wanted.headers.place("x-request-id")
	p.wanted.host = true
}

// parse returns an error where the route's context extensions make no sense.
func (p *parser) parse(v *view) (parsed, error) {
	var r parsed
	r.Credential, r.bearerUsed = p.credential(v)
	r.Origin, r.HasOrigin = v.joined(p.origin)
	if !r.HasOrigin {
		r.Origin, r.HasOrigin = v.joined(p.xOrigin)
	}
	r.Address = p.clientAddress(v)
	r.Method, r.Path = v.method, v.path
	contentType, _ := v.header(p.contentType)
	r.grpc = isGRPC(contentType)
	return r, p.extend(&r, v)
}

// isGRPC tells what Envoy answers as gRPC from what it answers as HTTP.
func isGRPC(contentType string) bool {
	rest, found := strings.CutPrefix(contentType, "application/grpc")
	return found && (rest == "" || rest[0] == '+')
}

// extend reads what the route asks for.
func (p *parser) extend(r *parsed, v *view) (err error) {
	if r.explain, err = flag(ExplainExtension, v.extensions[p.explain].value); err != nil {
		return err
	}
	if r.Anonymous, err = flag(AnonymousExtension, v.extensions[p.anonymous].value); err != nil {
		return err
	}
	if cost := v.extensions[p.cost]; cost.present {
		n, err := strconv.ParseUint(cost.value, 10, 32)
		if err != nil || n < 1 || n > maxCost {
			return fmt.Errorf("context extension %s: expected a whole number from 1 to %d, got %q", CostExtension, maxCost, cost.value)
		}
		r.Cost = uint32(n)
	}
	if scope := v.extensions[p.scope]; scope.present {
		if !apikey.ValidScopeName(scope.value) {
			return fmt.Errorf("context extension %s: expected the name of a scope, got %q", ScopeExtension, scope.value)
		}
		r.RequiredScope = scope.value
	}
	return nil
}

func flag(extension, value string) (bool, error) {
	switch value {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, fmt.Errorf("context extension %s: expected true or false, got %q", extension, value)
}

func (p *parser) credential(v *view) (credential apikey.Credential, bearer bool) {
	found := 0
	var text string
	for _, place := range p.credentials {
		if value, n := v.header(place); n > 0 {
			text, found = value, found+n
		}
	}
	if p.sources.QueryParameter != "" {
		if value, n := queryParameter(v.path, p.sources.QueryParameter); n > 0 {
			text, found = value, found+n
		}
	}
	if found == 0 && p.sources.Bearer {
		if value, n := v.header(p.authorization); n > 0 {
			if token, ok := bearerToken(value); ok {
				text, found, bearer = token, n, true
			}
		}
	}
	switch {
	case found == 0:
		return apikey.Credential{}, false
	case found > 1:
		return apikey.AmbiguousCredential(), bearer
	}
	return apikey.OneCredential(text), bearer
}

// bearerToken reads "Bearer token"; the scheme's case does not matter
// (RFC 9110, 11.1).
func bearerToken(value string) (string, bool) {
	const scheme = "bearer "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(value[len(scheme):], " "), true
}

// queryParameter returns the value of a query parameter and how often it
// stands in path. A name written with escapes counts as several: Envoy removes
// a parameter by its plain name only, and the key must not travel on.
func queryParameter(path, name string) (value string, n int) {
	_, query, found := strings.Cut(path, "?")
	if !found {
		return "", 0
	}
	query, _, _ = strings.Cut(query, "#")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		rawName, rawValue, _ := strings.Cut(pair, "=")
		if rawName != name {
			if unescaped, err := url.QueryUnescape(rawName); err == nil && unescaped == name {
				n += 2
			}
			continue
		}
		n++
		value = rawValue // a key needs no escapes; one with escapes is malformed
	}
	return value, n
}

func (p *parser) clientAddress(v *view) netip.Addr {
	switch p.address.Mode {
	case AddressHeader:
		value, n := v.header(p.client)
		if n != 1 {
			return netip.Addr{}
		}
		return parseAddress(value)
	case AddressForwarded:
		if value, present := v.joined(p.client); present {
			if entry, ok := fromRight(value, p.address.TrustedHops); ok {
				return parseAddress(entry)
			}
		}
	}
	return parseAddress(v.peer)
}

// fromRight returns the comma-separated entry with skip entries to its right.
func fromRight(list string, skip int) (string, bool) {
	for {
		comma := strings.LastIndexByte(list, ',')
		if skip == 0 {
			return strings.Trim(list[comma+1:], " \t"), true
		}
		if comma < 0 {
			return "", false
		}
		list = list[:comma]
		skip--
	}
}

// parseAddress returns the invalid address for anything that is none: what the
// client's address is must then be taken as unknown.
func parseAddress(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return apikey.CanonicalAddress(addr)
}
