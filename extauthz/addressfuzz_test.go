package extauthz

import (
	"net/netip"
	"strings"
	"testing"
)

// plainForwarded is another reading of [AddressForwarded]: the entry from the
// right that the outermost trusted proxy wrote, or the peer where there are
// fewer; the invalid address where that is no address.
func plainForwarded(headers []string, peer string, hops int) netip.Addr {
	text := peer
	if len(headers) > 0 {
		entries := strings.Split(strings.Join(headers, ","), ",")
		if len(entries) > hops {
			text = strings.Trim(entries[len(entries)-1-hops], " \t")
		}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// The client's address is that which the trusted proxies vouch for, whatever
// the headers say to the left of it, in both forms that Envoy sends headers in.
func FuzzForwarded(f *testing.F) {
	f.Add("6.6.6.6, 203.0.113.9,10.0.0.1", "192.0.2.1", uint8(1))
	f.Add("203.0.113.9\n10.0.0.1", "192.0.2.1", uint8(1))
	f.Add("", "::ffff:192.0.2.1", uint8(0))
	f.Add("unknown,\t2001:db8::9%eth0 \n,", "192.0.2.1", uint8(2))
	f.Add("\n", "", uint8(0))
	f.Fuzz(func(t *testing.T, lines, peer string, proxies uint8) {
		lines, peer = strings.ToValidUTF8(lines, "?"), strings.ToValidUTF8(peer, "?")
		hops := int(proxies % 8)
		values := strings.Split(lines, "\n")
		if lines == "" {
			values = nil
		}
		var headers []pair
		for _, value := range values {
			headers = append(headers, pair{"x-forwarded-for", value})
		}
		p := newParser(CredentialSources{}, ClientAddress{Mode: AddressForwarded, TrustedHops: hops})
		want := plainForwarded(values, peer, hops)
		for _, raw := range []bool{false, true} {
			got := parseBoth(t, &p, checkOf(raw, peer, "/", headers...)).Address
			if got != want {
				t.Fatalf("%q from %q behind %d proxies, raw %v: got %v, expected %v", values, peer, hops, raw, got, want)
			}
			// What a client prepends changes nothing once its proxies have written.
			if len(strings.Split(strings.Join(values, ","), ",")) > hops && len(values) > 0 {
				forged := append([]pair{{"x-forwarded-for", "198.51.100.66, 198.51.100.67"}}, headers...)
				if got := parseBoth(t, &p, checkOf(raw, peer, "/", forged...)).Address; got != want {
					t.Fatalf("%q behind %d proxies with a forged header before: got %v, expected %v", values, hops, got, want)
				}
			}
		}
	})
}
