package statefile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/internal/boltfile"
)

type blocks struct {
	file *boltfile.File
	next *batch
}

var _ block.Journal = (*blocks)(nil)

func (l *blocks) State(ctx context.Context) (state block.State, err error) {
	err = readState(ctx, l.file, blocksBucket, func(value []byte) error {
		state, err = decodeBlockState(value)
		return err
	})
	return state, err
}

func (l *blocks) Records(ctx context.Context, fn func(*block.Record) error) error {
	var record block.Record
	return l.file.View(ctx, func(tx *boltfile.Tx) error {
		return tx.Scan(blocksBucket, nil, func(key, value []byte) error {
			if err := decodeBlock(&record, key, value); err != nil {
				return fmt.Errorf("%w: block record %x: %w", boltfile.ErrDamaged, key, err)
			}
			return fn(&record)
		})
	})
}

func (l *blocks) Save(ctx context.Context, changes *block.Batch) (err error) {
	b := l.next
	if b == nil {
		b = &batch{}
	}
	for _, prefix := range changes.Delete {
		b.keep(blocksBucket, func(to []byte) []byte { return appendAddress(to, prefix) }, nil)
	}
	for i := range changes.Put {
		record := &changes.Put[i]
		b.keep(blocksBucket,
			func(to []byte) []byte { return appendAddress(to, record.Prefix) },
			func(to []byte) []byte { return appendBlock(to, record) })
	}
	b.keep(metaBucket,
		func(to []byte) []byte { return append(to, blocksBucket...) },
		func(to []byte) []byte {
			to = append(to, recordVersion)
			to = binary.AppendVarint(to, changes.State.Clock.Time)
			return binary.AppendVarint(to, changes.State.Clock.Wall)
		})
	l.next, err = save(ctx, l.file, b)
	return err
}

func decodeBlockState(value []byte) (block.State, error) {
	d := boltfile.NewDecoder(value)
	d.Version(recordVersion)
	state := block.State{Clock: block.Clock{Time: d.Signed(maxTime), Wall: d.Signed(maxTime)}}
	return state, d.End()
}

// appendAddress encodes an IPv4 address as its 4 bytes and an IPv6 /64 as the
// first 8 of its 16.
func appendAddress(to []byte, prefix netip.Prefix) []byte {
	if prefix.Addr().Is4() {
		four := prefix.Addr().As4()
		return append(to, four[:]...)
	}
	six := prefix.Addr().As16()
	return append(to, six[:8]...)
}

func decodeAddress(key []byte) (netip.Prefix, error) {
	switch len(key) {
	case 4:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(key)), 32), nil
	case 8:
		var six [16]byte
		copy(six[:], key)
		return netip.PrefixFrom(netip.AddrFrom16(six), 64), nil
	}
	return netip.Prefix{}, errors.New("expected a key of 4 or 8 bytes")
}

// appendBlock encodes a record: recordVersion, when its window opened, one
// more than how long after that it was blocked, or zero, and the failures, as
// varints; then the name of the last reason, so that its number may change.
func appendBlock(to []byte, record *block.Record) []byte {
	to = append(to, recordVersion)
	to = binary.AppendUvarint(to, uint64(record.Opened))
	blocked := uint64(0)
	if record.Blocked != 0 {
		blocked = uint64(record.Blocked-record.Opened) + 1
	}
	to = binary.AppendUvarint(to, blocked)
	to = binary.AppendUvarint(to, uint64(record.Failures))
	return append(to, record.Reason.String()...)
}

func decodeBlock(record *block.Record, key, value []byte) (err error) {
	if record.Prefix, err = decodeAddress(key); err != nil {
		return err
	}
	d := boltfile.NewDecoder(value)
	d.Version(recordVersion)
	record.Opened = int64(d.Number(maxTime))
	record.Blocked = 0
	if blocked := d.Number(maxTime); blocked > 0 {
		record.Blocked = record.Opened + int64(blocked) - 1
	}
	record.Failures = uint32(d.Number(math.MaxUint32))
	// A reason of another version is no reason to lose the block.
	record.Reason = apikey.ReasonNone
	for reason := apikey.ReasonNone + 1; reason <= apikey.ReasonAllowed; reason++ {
		if reason.String() == string(d.Rest()) {
			record.Reason = reason
		}
	}
	if len(d.Rest()) > 64 {
		d.Fail(errors.New("expected a reason of at most 64 bytes"))
	}
	return d.Err()
}
