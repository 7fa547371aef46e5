package statefile

import (
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	recordVersion = 1
	// maxTime, in milliseconds, is far beyond any clock and far from an
	// overflow.
	maxTime = 1 << 52
)

// decoder reads varints until the first error, and zeros from then on.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) version() {
	if v := d.number(255); d.err == nil && v != recordVersion {
		d.fail(fmt.Errorf("record version %d, expected %d", v, recordVersion))
	}
}

func (d *decoder) number(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 || v > limit {
		d.fail(fmt.Errorf("expected a number up to %d", limit))
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) signed() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.rest)
	if n <= 0 || v > maxTime || v < -maxTime {
		d.fail(errors.New("expected a time"))
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// end returns the first error; a rest is one.
func (d *decoder) end() error {
	if len(d.rest) > 0 {
		d.fail(fmt.Errorf("%d bytes too many", len(d.rest)))
	}
	return d.err
}
