package boltfile

import (
	"encoding/binary"
	"fmt"
)

// Decoder reads a record of variable-length numbers: until the first error, and
// zeros from then on.
type Decoder struct {
	rest []byte
	err  error
}

// NewDecoder returns a decoder of record, of which it keeps nothing that it
// has read.
func NewDecoder(record []byte) Decoder { return Decoder{rest: record} }

// Fail makes err the first error, unless there was one.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

// Err returns the first error, without regard to what is left.
func (d *Decoder) Err() error { return d.err }

// Version reads a record's version, of which there is only one.
func (d *Decoder) Version(only uint64) {
	if v := d.Number(255); d.err == nil && v != only {
		d.Fail(fmt.Errorf("record version %d, expected %d", v, only))
	}
}

// Number reads a number from 0 to limit.
func (d *Decoder) Number(limit uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > limit {
		d.Fail(fmt.Errorf("expected a number up to %d", limit))
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// Signed reads a number from -limit to limit.
func (d *Decoder) Signed(limit int64) int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 || v > limit || v < -limit {
		d.Fail(fmt.Errorf("expected a number from %d to %d", -limit, limit))
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// Rest returns what is left to read; nothing is, after an error.
func (d *Decoder) Rest() []byte { return d.rest }

// End returns the first error; a rest is one.
func (d *Decoder) End() error {
	if len(d.rest) > 0 {
		d.Fail(fmt.Errorf("%d bytes too many", len(d.rest)))
	}
	return d.err
}
