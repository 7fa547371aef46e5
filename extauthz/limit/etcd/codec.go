package etcd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// recordVersion begins every account. A record is: it; the time, the tokens
// ever leased, the length of the generation and it; how many slots there are
// and each one's minute and tokens; how many leases are held and each one's
// replica, number, minute, end and tokens; all numbers as varints; a CRC-32C
// of all that.
const recordVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("damaged record")

func appendAccount(to []byte, a *lease.Account) []byte {
	start := len(to)
	to = append(to, recordVersion)
	to = binary.AppendUvarint(to, uint64(a.Time)) //nolint:gosec // never negative
	to = binary.AppendUvarint(to, a.Total)
	to = binary.AppendUvarint(to, uint64(len(a.Generation)))
	to = append(to, a.Generation...)
	to = binary.AppendUvarint(to, uint64(len(a.Slots)))
	for _, s := range a.Slots {
		to = binary.AppendUvarint(to, uint64(s.Minute)) //nolint:gosec // never negative
		to = binary.AppendUvarint(to, uint64(s.Tokens))
	}
	to = binary.AppendUvarint(to, uint64(len(a.Held)))
	for _, h := range a.Held {
		for _, n := range [...]uint64{h.Lease.Replica, h.Lease.Number, uint64(h.Minute), uint64(h.Until), uint64(h.Tokens)} { //nolint:gosec // never negative
			to = binary.AppendUvarint(to, n)
		}
	}
	return binary.BigEndian.AppendUint32(to, crc32.Checksum(to[start:], castagnoli))
}

func decodeAccount(value []byte) (lease.Account, error) {
	var a lease.Account
	body, err := checked(value, recordVersion)
	if err != nil {
		return a, err
	}
	d := decoder{rest: body}
	a.Time, a.Total = int64(d.number(math.MaxInt64)), d.number(math.MaxUint64) //nolint:gosec // bounded
	a.Generation = string(d.bytes(d.number(uint64(len(d.rest)))))
	for range d.number(uint64(len(d.rest))) {
		a.Slots = append(a.Slots, lease.Slot{Minute: int64(d.number(math.MaxInt64)), Tokens: uint32(d.number(math.MaxUint32))}) //nolint:gosec // bounded
	}
	for range d.number(uint64(len(d.rest))) {
		a.Held = append(a.Held, lease.Held{
			Lease:  lease.ID{Replica: d.number(math.MaxUint64), Number: d.number(math.MaxUint64)},
			Minute: int64(d.number(math.MaxInt64)), Until: int64(d.number(math.MaxInt64)), Tokens: uint32(d.number(math.MaxUint32)), //nolint:gosec // bounded
		})
	}
	if d.failed || len(d.rest) > 0 {
		return lease.Account{}, fmt.Errorf("%w: its numbers cannot be read", errRecord)
	}
	return a, nil
}

// checked returns what a record says after its version.
func checked(value []byte, version byte) ([]byte, error) {
	if len(value) < 5 {
		return nil, fmt.Errorf("%w: expected at least 5 bytes, got %d", errRecord, len(value))
	}
	body := value[:len(value)-4]
	if binary.BigEndian.Uint32(value[len(body):]) != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("%w: its checksum differs", errRecord)
	}
	if body[0] != version {
		return nil, fmt.Errorf("%w: expected version %d, got %d", errRecord, version, body[0])
	}
	return body[1:], nil
}

// decoder reads numbers until one fails.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) number(most uint64) uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > most || d.failed {
		d.failed = true
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) bytes(n uint64) []byte {
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	value := d.rest[:n]
	d.rest = d.rest[n:]
	return value
}
