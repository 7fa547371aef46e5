package usagefile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/usage"
)

const (
	// partBytes is how long a record of the log becomes, about.
	partBytes = 32 << 10
	// trimBatch is how many of them one change removes.
	trimBatch = 128
)

// Append implements [usage.Journal].
func (f *File) Append(ctx context.Context, entry *usage.Entry) error {
	// A change that is given up may still be made, so that it must own what it
	// writes.
	parts := encodeParts(entry.Deltas)
	number := entry.Number
	return f.file.Update(ctx, func(tx *boltfile.Tx) error {
		for i, part := range parts {
			if err := tx.Put(logBucket, logKey(number, i), part); err != nil {
				return err
			}
		}
		return tx.SetSequence(logBucket, number)
	})
}

func logKey(number uint64, part int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(make([]byte, 0, 12), number), uint32(part))
}

func encodeParts(deltas []usage.Delta) (parts [][]byte) {
	var part []byte
	var before usage.Delta
	for i := range deltas {
		if len(part) >= partBytes {
			parts, part, before = append(parts, part), nil, usage.Delta{}
		}
		if part == nil {
			part = append(make([]byte, 0, min(partBytes+128, 16+len(deltas)*16)), recordVersion)
		}
		part = appendDelta(part, &before, &deltas[i])
		before = deltas[i]
	}
	if part != nil {
		parts = append(parts, part)
	}
	return parts
}

// appendDelta encodes the distances of a delta's key and minute from those of
// the one before, and its counts.
func appendDelta(to []byte, before, d *usage.Delta) []byte {
	to = binary.AppendVarint(to, int64(d.Key-before.Key))
	to = binary.AppendVarint(to, d.Minute-before.Minute)
	return appendCounts(to, &d.Counts)
}

func decodePart(value []byte, fn func(*usage.Delta) error) error {
	d := newDecoder(value)
	d.Version(recordVersion)
	var delta usage.Delta
	for len(d.Rest()) > 0 {
		delta.Key += apikey.KeyID(d.Signed(math.MaxInt64))
		delta.Minute += d.Signed(math.MaxInt64)
		d.counts(&delta.Counts)
		if delta.Key <= 0 || delta.Minute < 0 || delta.Minute > maxMinute {
			d.Fail(errors.New("expected a key id and a minute"))
		}
		if d.Err() != nil {
			return d.Err()
		}
		if err := fn(&delta); err != nil {
			return err
		}
	}
	return d.End()
}

// scanLog passes fn every delta of the log with its entry's number.
func scanLog(tx *boltfile.Tx, fn func(number uint64, d *usage.Delta) error) error {
	return tx.Scan(logBucket, nil, func(key, value []byte) error {
		if len(key) != 12 {
			return damaged(logBucket, key, errors.New("expected a key of 12 bytes"))
		}
		number := binary.BigEndian.Uint64(key)
		if err := decodePart(value, func(d *usage.Delta) error { return fn(number, d) }); err != nil {
			return damaged(logBucket, key, err)
		}
		return nil
	})
}

// Replay implements [usage.Journal].
func (f *File) Replay(ctx context.Context, fn func(*usage.Delta)) (last uint64, err error) {
	err = f.file.View(ctx, func(tx *boltfile.Tx) error {
		if last, err = tx.Sequence(logBucket); err != nil {
			return err
		}
		var r record
		changed := map[apikey.KeyID]uint64{}
		var scratch [8]byte
		return scanLog(tx, func(number uint64, d *usage.Delta) error {
			change, known := changed[d.Key]
			if !known {
				if err := get(tx, 0, appendKey(scratch[:0], d.Key), &r); err != nil {
					return err
				}
				change = r.last
				changed[d.Key] = change
			}
			if number > change {
				fn(d)
			}
			return nil
		})
	})
	return last, err
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

// Trim implements [usage.Journal].
func (f *File) Trim(ctx context.Context, last uint64) error {
	for more := true; more; {
		err := f.file.Update(ctx, func(tx *boltfile.Tx) error {
			var keys [][]byte
			err := tx.Scan(logBucket, nil, func(key, _ []byte) error {
				if binary.BigEndian.Uint64(key) > last || len(keys) == trimBatch {
					return errEnough
				}
				keys = append(keys, append([]byte(nil), key...))
				return nil
			})
			if err != nil && !errors.Is(err, errEnough) {
				return err
			}
			for _, key := range keys {
				if err := tx.Delete(logBucket, key); err != nil {
					return err
				}
			}
			more = len(keys) == trimBatch
			return nil
		})
		if err != nil {
			return fmt.Errorf("trimming the log: %w", err)
		}
	}
	return nil
}

// oldest returns the number of the first entry, or more than any where there
// is none.
func oldest(tx *boltfile.Tx) (number uint64, err error) {
	number = 1<<64 - 1
	err = tx.Scan(logBucket, nil, func(key, _ []byte) error {
		number = binary.BigEndian.Uint64(key)
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return number, err
}
