package apikey

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Origin is a web origin (RFC 6454): scheme, host and port in canonical form,
// or the opaque origin "null". Compare with ==.
type Origin struct {
	scheme string // lower case
	host   string // lower case, IDN in its ASCII form, IPv6 in brackets
	port   uint16 // the scheme's default where none was given; 0 if it has none
	null   bool
}

var errOrigin = errors.New("expected an origin, scheme://host or scheme://host:port, without path, query or user")

// ParseOrigin reads the value of an Origin header. Scheme and host are
// compared without regard to case, an internationalized host by its ASCII
// form, and a scheme's default port equals none.
func ParseOrigin(text string) (Origin, error) {
	if text == "null" {
		return Origin{null: true}, nil
	}
	scheme, rest, found := strings.Cut(text, "://")
	if !found || !validScheme(scheme) {
		return Origin{}, errOrigin
	}
	scheme = strings.ToLower(scheme)
	host, port, err := parseHostPort(rest)
	if err != nil {
		return Origin{}, err
	}
	if port == 0 {
		port = defaultPort(scheme)
	}
	return Origin{scheme: scheme, host: host, port: port}, nil
}

// OriginPattern is one entry of a key's origin list. It holds for one origin,
// for a host under any scheme, or for all hosts below a domain:
//
//	https://app.example.io        this origin
//	https://app.example.io:8443   this origin
//	https://*.example.io          any host below example.io, not itself
//	example.io                    this host, any scheme, its default port
//	example.io:8443               this host and port, any scheme
//	*.example.io                  any host below it, any scheme
//	null                          the opaque origin of files and sandboxes
type OriginPattern struct {
	Origin        // scheme empty: any; port 0: the scheme's default
	wildcard bool // host is what follows "*."
}

// ParseOriginPattern reads an entry of a key's origin list. The error says
// what was expected and never repeats the text.
func ParseOriginPattern(text string) (OriginPattern, error) {
	if text == "null" {
		return OriginPattern{Origin: Origin{null: true}}, nil
	}
	if text == "*" {
		return OriginPattern{}, errors.New(`expected an origin; leave the list empty to allow any`)
	}
	var pattern OriginPattern
	rest := text
	if scheme, after, found := strings.Cut(text, "://"); found {
		if !validScheme(scheme) {
			return OriginPattern{}, errOrigin
		}
		pattern.scheme, rest = strings.ToLower(scheme), after
	}
	if after, found := strings.CutPrefix(rest, "*."); found {
		pattern.wildcard, rest = true, after
	}
	host, port, err := parseHostPort(rest)
	if err != nil {
		return OriginPattern{}, err
	}
	if pattern.wildcard && (strings.HasPrefix(host, "[") || isIPv4(host)) {
		return OriginPattern{}, errors.New("expected a domain after the wildcard, got an address")
	}
	if port == 0 && pattern.scheme != "" {
		port = defaultPort(pattern.scheme)
	}
	pattern.host, pattern.port = host, port
	if pattern.String() == "null" { // it would read back as the opaque origin
		return OriginPattern{}, errors.New("expected null in lower case for the opaque origin, or another host name")
	}
	return pattern, nil
}

// Matches reports whether origin is one that the pattern holds for.
func (p *OriginPattern) Matches(origin Origin) bool {
	if p.null || origin.null {
		return p.null && origin.null
	}
	if origin.host == "" || p.host == "" {
		return false
	}
	if p.scheme != "" && p.scheme != origin.scheme {
		return false
	}
	port := p.port
	if port == 0 {
		port = defaultPort(origin.scheme)
	}
	if port != origin.port {
		return false
	}
	if !p.wildcard {
		return p.host == origin.host
	}
	n := len(origin.host) - len(p.host)
	return n > 1 && origin.host[n-1] == '.' && origin.host[n:] == p.host
}

// String writes the pattern in canonical form; [ParseOriginPattern] reads it
// back as an equal pattern.
func (p OriginPattern) String() string {
	if p.null {
		return "null"
	}
	var b strings.Builder
	if p.scheme != "" {
		b.WriteString(p.scheme + "://")
	}
	if p.wildcard {
		b.WriteString("*.")
	}
	b.WriteString(p.host)
	if p.port != 0 && (p.scheme == "" || p.port != defaultPort(p.scheme)) {
		b.WriteString(":" + strconv.Itoa(int(p.port)))
	}
	return b.String()
}

func defaultPort(scheme string) uint16 {
	switch scheme {
	case "https", "wss":
		return 443
	case "http", "ws":
		return 80
	}
	return 0
}

// validScheme checks the grammar of RFC 3986, 3.1.
func validScheme(scheme string) bool {
	for i := range len(scheme) {
		c := scheme[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		other := '0' <= scheme[i] && scheme[i] <= '9' || scheme[i] == '+' || scheme[i] == '-' || scheme[i] == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return scheme != ""
}

// parseHostPort splits host[:port] and puts the host in canonical form. Port 0
// stands for none.
func parseHostPort(text string) (host string, port uint16, err error) {
	host = text
	if colon := strings.LastIndexByte(text, ':'); colon >= 0 && !strings.HasSuffix(text, "]") {
		digits := text[colon+1:]
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 || digits[0] == '0' || digits[0] == '+' {
			return "", 0, errors.New("expected a port from 1 to 65535")
		}
		host, port = text[:colon], uint16(n)
	}
	host, err = canonicalHost(host)
	return host, port, err
}

var errHost = errors.New("expected a host name or an address")

func canonicalHost(host string) (string, error) {
	if strings.HasPrefix(host, "[") {
		return canonicalIPv6(host)
	}
	for i := range len(host) {
		if host[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(host)
			if err != nil || !utf8.ValidString(host) {
				return "", errors.New("expected an internationalized host name that IDNA admits")
			}
			host = ascii
			break
		}
	}
	host = strings.ToLower(host)
	if !validHostName(host) {
		return "", errHost
	}
	// A name whose last label is a number is an IPv4 address or nothing
	// (WHATWG URL, "ends in a number").
	if last := host[strings.LastIndexByte(host, '.')+1:]; '0' <= last[0] && last[0] <= '9' && allDigits(last) && !isIPv4(host) {
		return "", errHost
	}
	return host, nil
}

func canonicalIPv6(host string) (string, error) {
	if !strings.HasSuffix(host, "]") {
		return "", errHost
	}
	addr, err := netip.ParseAddr(host[1 : len(host)-1])
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", errHost
	}
	return "[" + addr.String() + "]", nil
}

func isIPv4(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Is4()
}

func allDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

// validHostName checks a lower-case host name: labels of letters, digits,
// hyphens and underscores, 1 to 63 long, 253 in all.
func validHostName(host string) bool {
	if len(host) == 0 || len(host) > 253 {
		return false
	}
	label := 0
	for i := range len(host) {
		c := host[i]
		switch {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}
	return label > 0
}
