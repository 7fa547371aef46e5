package apikey

import (
	"errors"
	"net/netip"
	"strings"
)

// ParseAddressPrefix reads one entry of a key's address list: an IPv4 or IPv6
// address or CIDR prefix. Addresses become prefixes of full length, IPv4-mapped
// IPv6 becomes IPv4 and host bits beyond the prefix are refused, since they
// are more often a slip than meant. So are zones, which mean nothing off-link.
func ParseAddressPrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "%") {
		return netip.Prefix{}, errors.New("expected an address without a zone")
	}
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, errors.New("expected an IPv4 or IPv6 address or a CIDR prefix")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, errors.New("expected an IPv4 or IPv6 address or a CIDR prefix")
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, errors.New("expected an IPv4-mapped prefix of at least 96 bits")
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, errors.New("expected no host bits beyond the prefix; the network is " + masked.String())
	}
	return prefix, nil
}

// FormatAddressPrefix writes a list entry as people do: a lone address without
// its prefix length.
func FormatAddressPrefix(prefix netip.Prefix) string {
	if prefix.IsSingleIP() {
		return prefix.Addr().String()
	}
	return prefix.String()
}

// CanonicalAddress returns addr as lists and blocks compare it: without a
// zone, IPv4-mapped IPv6 as IPv4.
func CanonicalAddress(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}
