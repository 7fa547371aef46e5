package statefile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/internal/boltfile"
)

type limits struct {
	file *boltfile.File
	next *batch
}

var _ limit.Journal = (*limits)(nil)

func (l *limits) State(ctx context.Context) (state limit.State, err error) {
	err = readState(ctx, l.file, limitsBucket, func(value []byte) error {
		state, err = decodeLimitState(value)
		return err
	})
	return state, err
}

func (l *limits) Records(ctx context.Context, fn func(*limit.Record) error) error {
	var record limit.Record
	return l.file.View(ctx, func(tx *boltfile.Tx) error {
		return tx.Scan(limitsBucket, nil, func(key, value []byte) error {
			if err := decodeRing(&record, key, value); err != nil {
				return fmt.Errorf("%w: limit record %x: %w", boltfile.ErrDamaged, key, err)
			}
			return fn(&record)
		})
	})
}

func (l *limits) Save(ctx context.Context, changes *limit.Batch) (err error) {
	b := l.next
	if b == nil {
		b = &batch{}
	}
	for _, id := range changes.Delete {
		b.keep(limitsBucket, func(to []byte) []byte { return appendKeyID(to, id) }, nil)
	}
	for i := range changes.Put {
		record := &changes.Put[i]
		b.keep(limitsBucket,
			func(to []byte) []byte { return appendKeyID(to, record.Key) },
			func(to []byte) []byte { return appendRing(to, record) })
	}
	b.keep(metaBucket,
		func(to []byte) []byte { return append(to, limitsBucket...) },
		func(to []byte) []byte { return appendLimitState(to, &changes.State) })
	l.next, err = save(ctx, l.file, b)
	return err
}

func appendKeyID(to []byte, id apikey.KeyID) []byte {
	return binary.BigEndian.AppendUint64(to, uint64(id))
}

// maxDue is how many different times the tokens of one key can return at.
const maxDue = 64

// appendRing encodes a record: recordVersion, settled, limit, number of due
// times, and their unit in milliseconds, as varints; then for each time its
// distance to the last one, the first one's to 1970, and its tokens. The
// unit is a minute where all times are whole minutes.
func appendRing(to []byte, record *limit.Record) []byte {
	unit := int64(minute)
	for _, due := range record.Due {
		if due.At%minute != 0 {
			unit = 1
			break
		}
	}
	to = append(to, recordVersion)
	to = binary.AppendUvarint(to, uint64(record.Settled))
	to = binary.AppendUvarint(to, uint64(record.Limit))
	to = binary.AppendUvarint(to, uint64(len(record.Due)))
	to = binary.AppendUvarint(to, uint64(unit))
	last := int64(0)
	for _, due := range record.Due {
		to = binary.AppendUvarint(to, uint64((due.At-last)/unit))
		to = binary.AppendUvarint(to, uint64(due.Tokens))
		last = due.At
	}
	return to
}

// minute is in milliseconds.
const minute = 60_000

// decodeRing decodes into record, whose Due it reuses.
func decodeRing(record *limit.Record, key, value []byte) error {
	if len(key) != 8 {
		return errors.New("expected a key of 8 bytes")
	}
	d := boltfile.NewDecoder(value)
	d.Version(recordVersion)
	record.Key = apikey.KeyID(binary.BigEndian.Uint64(key))
	record.Settled = uint32(d.Number(math.MaxUint32))
	record.Limit = uint32(d.Number(math.MaxUint32))
	count := d.Number(maxDue)
	unit := d.Number(minute)
	if record.Key <= 0 {
		d.Fail(errors.New("expected a positive key id"))
	}
	if unit != 1 && unit != minute {
		d.Fail(errors.New("expected a unit of 1 or 60000"))
		return d.Err()
	}
	record.Due = record.Due[:0]
	last := uint64(0)
	for i := uint64(0); i < count && d.Err() == nil; i++ {
		distance := d.Number(maxTime/unit) * unit
		tokens := uint32(d.Number(math.MaxUint32))
		last += distance
		if tokens == 0 || distance == 0 || last > maxTime {
			d.Fail(errors.New("expected tokens at ascending times"))
		}
		record.Due = append(record.Due, limit.Due{At: int64(last), Tokens: tokens})
	}
	return d.End()
}

// appendLimitState encodes a state: recordVersion, whether it is running, the
// clock, and the unclean stops, all as varints.
func appendLimitState(to []byte, state *limit.State) []byte {
	running := byte(0)
	if state.Running {
		running = 1
	}
	to = append(to, recordVersion, running)
	to = binary.AppendVarint(to, state.Clock.Time)
	to = binary.AppendVarint(to, state.Clock.Wall)
	to = binary.AppendVarint(to, state.Clock.Latest)
	to = binary.AppendUvarint(to, uint64(len(state.Unclean)))
	for _, stop := range state.Unclean {
		to = binary.AppendUvarint(to, uint64(stop.Number))
		to = binary.AppendUvarint(to, uint64(stop.Stops))
		to = binary.AppendVarint(to, stop.At)
		to = binary.AppendVarint(to, stop.Wall)
	}
	return to
}

func decodeLimitState(value []byte) (limit.State, error) {
	d := boltfile.NewDecoder(value)
	d.Version(recordVersion)
	state := limit.State{
		Running: d.Number(1) == 1,
		Clock:   limit.Clock{Time: d.Signed(maxTime), Wall: d.Signed(maxTime), Latest: d.Signed(maxTime)},
	}
	for range d.Number(1000) {
		if d.Err() != nil {
			break
		}
		state.Unclean = append(state.Unclean, limit.UncleanStop{
			Number: uint32(d.Number(math.MaxUint32)),
			Stops:  uint32(d.Number(math.MaxUint32)),
			At:     d.Signed(maxTime),
			Wall:   d.Signed(maxTime),
		})
	}
	return state, d.End()
}
