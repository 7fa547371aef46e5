package etcd

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block/shared"
)

// blockEvent is what one replica tells all of addresses: failures, or that one
// was unblocked.
type blockEvent struct {
	time      int64 // by the shared clock
	failures  []shared.Failure
	unblocked netip.Prefix // where there are no failures
}

// eventVersion begins every event. A record is: it; the time; the unblocked
// address, none where it has no bytes; how many failures there are and of each
// the address, the name of its reason, its threshold and its window in
// milliseconds; all texts with their length before them, all numbers as
// varints; a CRC-32C of all that.
const eventVersion = 1

func (e *blockEvent) encode() []byte {
	to := []byte{eventVersion}
	to = binary.AppendUvarint(to, uint64(e.time)) //nolint:gosec // never negative
	to = appendPrefix(to, e.unblocked)
	to = binary.AppendUvarint(to, uint64(len(e.failures)))
	for i := range e.failures {
		f := &e.failures[i]
		to = appendPrefix(to, f.Prefix)
		to = appendText(to, f.Reason.String())
		to = binary.AppendUvarint(to, uint64(f.Threshold))
		to = binary.AppendUvarint(to, uint64(max(0, f.Window.Milliseconds()))) //nolint:gosec // not negative
	}
	return binary.BigEndian.AppendUint32(to, crc32.Checksum(to, castagnoli))
}

func appendText[T string | []byte](to []byte, text T) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

func appendPrefix(to []byte, p netip.Prefix) []byte { return appendText(to, p.Addr().AsSlice()) }

func decodeEvent(value []byte) (blockEvent, error) {
	body, err := checked(value, eventVersion)
	if err != nil {
		return blockEvent{}, err
	}
	d := decoder{rest: body}
	e := blockEvent{time: int64(d.number(math.MaxInt64)), unblocked: d.prefix()} //nolint:gosec // bounded
	for range d.number(uint64(len(d.rest))) {
		f := shared.Failure{Prefix: d.prefix(), Reason: reasonOf(string(d.text())), Threshold: uint32(d.number(math.MaxUint32))} //nolint:gosec // bounded
		f.Window = time.Duration(d.number(uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond                            //nolint:gosec // bounded
		if !f.Prefix.IsValid() {
			d.failed = true
		}
		e.failures = append(e.failures, f)
	}
	if d.failed || len(d.rest) > 0 {
		return blockEvent{}, fmt.Errorf("%w: it cannot be read", errRecord)
	}
	return e, nil
}

func (d *decoder) text() []byte { return d.bytes(d.number(uint64(len(d.rest)))) }

// prefix reads an address and returns what is blocked with it.
func (d *decoder) prefix() netip.Prefix {
	text := d.text()
	addr, ok := netip.AddrFromSlice(text)
	switch {
	case ok && addr.Is4():
		return netip.PrefixFrom(addr, 32)
	case ok:
		return netip.PrefixFrom(addr, 64).Masked()
	case len(text) > 0:
		d.failed = true
	}
	return netip.Prefix{}
}

// reasonOf returns a reason by its name. One of another version is no reason to
// lose the failure.
func reasonOf(name string) (r apikey.Reason) {
	for _, reason := range apikey.Reasons() {
		if reason.String() == name {
			r = reason
		}
	}
	return r
}
