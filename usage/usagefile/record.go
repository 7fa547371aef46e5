package usagefile

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/usage"
)

const recordVersion = 1

// record is what one level holds of a key.
type record struct {
	last uint64         // the number of the history's last change; only with minutes
	kept []usage.Period // by the level's resolution, ascending
	owed []usage.Period // by the next level's, which lacks them; ascending
}

// add counts into the period that starts then.
func add(periods []usage.Period, start int64, counts *usage.Counts) []usage.Period {
	// Nearly always it is the last one, or after it.
	i := len(periods)
	for i > 0 && periods[i-1].Start > start {
		i--
	}
	if i > 0 && periods[i-1].Start == start {
		periods[i-1].Counts.Add(counts)
		return periods
	}
	return slices.Insert(periods, i, usage.Period{Start: start, Counts: *counts})
}

// newest returns the start of the newest period that is kept, and whether
// there is one.
func (r *record) newest() (start int64, found bool) {
	if len(r.kept) == 0 {
		return 0, false
	}
	return r.kept[len(r.kept)-1].Start, true
}

// encode appends the record of a level: recordVersion, last, the kept periods
// and the owed ones.
func (r *record) encode(to []byte, n int) []byte {
	to = append(to, recordVersion)
	to = binary.AppendUvarint(to, r.last)
	to = appendPeriods(to, r.kept, levels[n].resolution)
	return appendPeriods(to, r.owed, next(n))
}

// next is the resolution of what a level owes; the last one owes nothing.
func next(n int) usage.Resolution { return levels[min(n+1, len(levels)-1)].resolution }

// appendPeriods encodes their number, and then for each its distance from the
// one before, the first one's from 1970, in periods, and its counts.
func appendPeriods(to []byte, periods []usage.Period, resolution usage.Resolution) []byte {
	to = binary.AppendUvarint(to, uint64(len(periods)))
	before := int64(0)
	for i := range periods {
		at := periods[i].Start / resolution.Minutes()
		to = binary.AppendUvarint(to, uint64(at-before))
		to = appendCounts(to, &periods[i].Counts)
		before = at
	}
	return to
}

// appendCounts encodes a byte with a bit for each outcome that there was, and
// the numbers of these.
func appendCounts(to []byte, counts *usage.Counts) []byte {
	at := len(to)
	to = append(to, 0)
	for o, n := range counts {
		if n > 0 {
			to[at] |= 1 << o
			to = binary.AppendUvarint(to, n)
		}
	}
	return to
}

// decode decodes into r, whose slices it reuses.
func (r *record) decode(n int, value []byte) error {
	d := newDecoder(value)
	d.Version(recordVersion)
	r.last = d.Number(math.MaxUint64)
	r.kept = d.periods(r.kept[:0], levels[n].resolution)
	r.owed = d.periods(r.owed[:0], next(n))
	return d.End()
}

func (r *record) reset() { *r = record{kept: r.kept[:0], owed: r.owed[:0]} }

func appendKey(to []byte, id apikey.KeyID) []byte {
	return binary.BigEndian.AppendUint64(to, uint64(id))
}

func decodeKey(key []byte) (apikey.KeyID, error) {
	if len(key) != 8 || key[0] > math.MaxInt8 {
		return 0, errors.New("expected a key id in 8 bytes")
	}
	return apikey.KeyID(binary.BigEndian.Uint64(key)), nil
}

// maxMinute is far beyond any clock and far from an overflow.
const maxMinute = 1 << 40

// decoder reads what records are made of.
type decoder struct{ boltfile.Decoder }

func newDecoder(record []byte) decoder { return decoder{boltfile.NewDecoder(record)} }

func (d *decoder) counts(to *usage.Counts) {
	mask := d.Number(1<<usage.Outcomes - 1)
	for o := range to {
		to[o] = 0
		if mask&(1<<o) != 0 {
			to[o] = d.Number(math.MaxUint64)
		}
	}
}

func (d *decoder) periods(to []usage.Period, resolution usage.Resolution) []usage.Period {
	length := resolution.Minutes()
	at := uint64(0)
	for i := d.Number(math.MaxUint32); i > 0 && d.Err() == nil; i-- {
		distance := d.Number(maxMinute)
		if at += distance; distance == 0 && len(to) > 0 || at > maxMinute {
			d.Fail(errors.New("expected ascending times"))
			break
		}
		p := usage.Period{Start: int64(at) * length}
		d.counts(&p.Counts)
		to = append(to, p)
	}
	return to
}
