package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/tokenkithq/authz/apikey"
)

// clientAddress returns the address that r comes from: the one value of the
// trusted header where one is named and holds an address, or else the peer's.
// It is invalid where there is neither, as on a Unix socket.
func clientAddress(r *http.Request, header string) netip.Addr {
	if header != "" {
		if values := r.Header.Values(header); len(values) == 1 {
			if addr, err := netip.ParseAddr(strings.TrimSpace(values[0])); err == nil {
				return apikey.CanonicalAddress(addr)
			}
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return apikey.CanonicalAddress(addr)
}

// hostGuard decides which Host headers the public API answers to.
type hostGuard struct {
	names      map[string]bool
	anyAddress bool // literal IP addresses are allowed
}

func newHostGuard(allowed []string, listen string) hostGuard {
	guard := hostGuard{names: map[string]bool{"localhost": true}}
	for _, name := range allowed {
		guard.names[canonicalHost(name)] = true
	}
	if host, _, err := net.SplitHostPort(listen); err == nil {
		addr, err := netip.ParseAddr(host)
		switch {
		case host == "" || err == nil && addr.IsUnspecified():
			guard.anyAddress = true
		default:
			guard.names[canonicalHost(host)] = true
		}
	}
	return guard
}

// allows reports whether a request with this Host header is meant for us. A
// page that points its own name at our address sends that name; it cannot
// make a browser send a literal address or another name.
func (g hostGuard) allows(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = canonicalHost(host)
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.anyAddress || addr.IsLoopback() || g.names[host]
	}
	return g.names[host]
}

// canonicalHost returns a host name or address as it is compared: lower case,
// without brackets and without the root's dot.
func canonicalHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if inner, found := strings.CutPrefix(host, "["); found {
		host = strings.TrimSuffix(inner, "]")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return apikey.CanonicalAddress(addr).String()
	}
	return host
}
