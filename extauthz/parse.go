package extauthz

import (
	"net/netip"
	"net/url"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

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

// parser reads an [apikey.Request] from a Check.
type parser struct {
	sources CredentialSources
	address ClientAddress
}

// parsed is a request and what must be taken from it on its way upstream.
type parsed struct {
	apikey.Request
	bearerUsed bool
}

func (p *parser) parse(check *authv3.CheckRequest) parsed {
	attributes := check.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	headers := headerView{plain: http.GetHeaders(), raw: http.GetHeaderMap().GetHeaders()}
	var r parsed
	r.Credential, r.bearerUsed = p.credential(headers, http.GetPath())
	r.Origin, r.HasOrigin = headers.joined("origin")
	if !r.HasOrigin {
		r.Origin, r.HasOrigin = headers.joined("x-origin")
	}
	r.Address = p.clientAddress(headers, attributes.GetSource())
	return r
}

func (p *parser) credential(headers headerView, path string) (credential apikey.Credential, bearer bool) {
	found := 0
	var text string
	for _, name := range p.sources.Headers {
		if value, n := headers.one(name); n > 0 {
			text, found = value, found+n
		}
	}
	if p.sources.QueryParameter != "" {
		if value, n := queryParameter(path, p.sources.QueryParameter); n > 0 {
			text, found = value, found+n
		}
	}
	if found == 0 && p.sources.Bearer {
		if value, n := headers.one("authorization"); n > 0 {
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

func (p *parser) clientAddress(headers headerView, source *authv3.AttributeContext_Peer) netip.Addr {
	switch p.address.Mode {
	case AddressHeader:
		value, n := headers.one(p.address.Header)
		if n != 1 {
			return netip.Addr{}
		}
		return parseAddress(value)
	case AddressForwarded:
		if value, present := headers.joined("x-forwarded-for"); present {
			if entry, ok := fromRight(value, p.address.TrustedHops); ok {
				return parseAddress(entry)
			}
		}
	}
	return parseAddress(source.GetAddress().GetSocketAddress().GetAddress())
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

// headerView reads headers from whichever of its two fields Envoy filled.
type headerView struct {
	plain map[string]string
	raw   []*corev3.HeaderValue
}

// one returns a header's value and how many values there are. Envoy joins the
// values of a repeated header with commas; such a value is counted as one here
// and fails later, since neither keys nor addresses have commas.
func (h headerView) one(name string) (value string, n int) {
	if v, found := h.plain[name]; found {
		value, n = v, 1
	}
	for _, header := range h.raw {
		if strings.EqualFold(header.GetKey(), name) {
			value = rawValue(header)
			n++
		}
	}
	return value, n
}

// joined returns a header's values joined with commas, as Envoy does.
func (h headerView) joined(name string) (value string, present bool) {
	value, present = h.plain[name]
	for _, header := range h.raw {
		if !strings.EqualFold(header.GetKey(), name) {
			continue
		}
		if present {
			value += "," + rawValue(header)
		} else {
			value, present = rawValue(header), true
		}
	}
	return value, present
}

func rawValue(header *corev3.HeaderValue) string {
	if raw := header.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return header.GetValue()
}
