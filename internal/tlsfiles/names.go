package tlsfiles

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// name is a subject alternative name; texts of different kinds never match.
type name struct {
	kind nameKind
	text string
}

type nameKind int

const (
	dnsName nameKind = iota
	address
	uri
)

// allowed are names of which one is enough.
type allowed map[name]bool

var dnsPattern = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

func parseName(text string) (name, error) {
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" || u.Host == "" || u.String() != text {
			return name{}, errors.New("expected a URI such as spiffe://cluster.local/ns/edge/sa/gateway")
		}
		return name{uri, text}, nil
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return name{address, addr.Unmap().String()}, nil
	}
	// A name from a certificate for *.example.io is no name of one client.
	if lower := strings.ToLower(text); dnsPattern.MatchString(lower) {
		return name{dnsName, lower}, nil
	}
	return name{}, errors.New("expected a DNS name, an IP address or a URI such as spiffe://cluster.local/ns/edge/sa/gateway")
}

// match reports whether a certificate has an allowed name. Its common name is
// none.
func (a allowed) match(certificate *x509.Certificate) bool {
	for _, n := range subjectNames(certificate) {
		if a[n] {
			return true
		}
	}
	return false
}

func subjectNames(certificate *x509.Certificate) []name {
	var names []name
	for _, dns := range certificate.DNSNames {
		names = append(names, name{dnsName, strings.ToLower(dns)})
	}
	for _, ip := range certificate.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, name{address, addr.Unmap().String()})
		}
	}
	for _, u := range certificate.URIs {
		names = append(names, name{uri, u.String()})
	}
	return names
}

// namesOf returns the names of a certificate for people.
func namesOf(certificate *x509.Certificate) []string {
	texts := []string{}
	for _, n := range subjectNames(certificate) {
		texts = append(texts, n.text)
	}
	return texts
}
