package block

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// id is what is blocked: an IPv4 address, or the first half of an IPv6 one.
type id struct {
	bits uint64
	four bool
}

// idOf takes a canonical, valid address.
func idOf(addr netip.Addr) id {
	if addr.Is4() {
		four := addr.As4()
		return id{uint64(binary.BigEndian.Uint32(four[:])), true}
	}
	six := addr.As16()
	return id{binary.BigEndian.Uint64(six[:8]), false}
}

func (i id) prefix() netip.Prefix {
	if i.four {
		var four [4]byte
		binary.BigEndian.PutUint32(four[:], uint32(i.bits))
		return netip.PrefixFrom(netip.AddrFrom4(four), 32)
	}
	var six [16]byte
	binary.BigEndian.PutUint64(six[:8], i.bits)
	return netip.PrefixFrom(netip.AddrFrom16(six), 64)
}

// hasher spreads ids by a secret, so that nobody can choose addresses that all
// fall into one place.
type hasher struct{ seed maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed()} }

func (h hasher) hash(i id) uint64 { return maphash.Comparable(h.seed, i) }
