package records

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unsafe"
)

// A record is one byte of format and then fields in ascending order of their
// tags. A field is its tag and the length of its value, both as uvarints in
// their shortest form, and the value. A field with several values stands there
// several times.
//
// An even tag must be understood: whoever meets one that it does not know
// refuses the record with [ErrNewer], since it could be what forbids the use
// of a key. An odd tag may be passed over. Changing a record keeps every field
// that the change is not about, known or not, so that records may gain fields
// without being rewritten, and programs may go back a version as long as no
// record uses what they do not know.
//
// Checksums are the file's.
const recordFormat = 1

var errRecord = errors.New("a record is malformed")

type field struct {
	tag   uint64
	value []byte
}

// nextField splits the first field off rest.
func nextField(rest []byte, after uint64) (f field, tail []byte, err error) {
	tag, n := shortUvarint(rest)
	if n == 0 || tag < after {
		return field{}, nil, errRecord
	}
	rest = rest[n:]
	length, n := shortUvarint(rest)
	if n == 0 || length > uint64(len(rest)-n) {
		return field{}, nil, errRecord
	}
	end := n + int(length)
	return field{tag, rest[n:end:end]}, rest[end:], nil
}

// shortUvarint reads a uvarint in its shortest form, or returns no length.
func shortUvarint(b []byte) (value uint64, n int) {
	value, n = binary.Uvarint(b)
	if n <= 0 || n > 1 && b[n-1] == 0 {
		return 0, 0
	}
	return value, n
}

// fieldsOf checks the format and returns what follows it.
func fieldsOf(record []byte) ([]byte, error) {
	if len(record) == 0 {
		return nil, errRecord
	}
	if record[0] != recordFormat {
		return nil, fmt.Errorf("a record of format %d, expected %d: %w", record[0], recordFormat, ErrNewer)
	}
	return record[1:], nil
}

// unknownField refuses a field that must be understood.
func unknownField(tag uint64) error {
	if tag%2 == 0 {
		return fmt.Errorf("a record with field %d, which this version does not know: %w", tag, ErrNewer)
	}
	return nil
}

func appendField(record []byte, tag uint64, value []byte) []byte {
	record = binary.AppendUvarint(record, tag)
	record = binary.AppendUvarint(record, uint64(len(value)))
	return append(record, value...)
}

// appendText and the like leave out a field that has its zero value.
func appendText(record []byte, tag uint64, text string) []byte {
	if text == "" {
		return record
	}
	return appendField(record, tag, []byte(text))
}

func appendNumber(record []byte, tag, number uint64) []byte {
	if number == 0 {
		return record
	}
	var value [binary.MaxVarintLen64]byte
	return appendField(record, tag, value[:binary.PutUvarint(value[:], number)])
}

func number(value []byte) (uint64, error) {
	n, length := shortUvarint(value)
	if length == 0 || length != len(value) || n == 0 {
		return 0, errRecord
	}
	return n, nil
}

// positive reads a number that fits an id.
func positive(value []byte) (uint64, error) {
	n, err := number(value)
	if err == nil && n > math.MaxInt64 {
		err = errRecord
	}
	return n, err
}

// eachField calls set for each field of a record. Only fields of the tags in
// several, and those that may be passed over, may have several values. Values
// are never changed afterwards and may be kept; all share one allocation.
func eachField(record []byte, set func(field) error, several ...uint64) error {
	record = append(make([]byte, 0, len(record)), record...)
	rest, err := fieldsOf(record)
	if err != nil {
		return err
	}
	for after := uint64(0); len(rest) > 0; {
		var f field
		if f, rest, err = nextField(rest, after); err != nil {
			return err
		}
		if f.tag == after && f.tag%2 == 0 && !slices.Contains(several, f.tag) {
			return errRecord
		}
		after = f.tag
		if err := set(f); err != nil {
			return err
		}
	}
	return nil
}

// setField returns record with the fields of one tag replaced by one value, or
// by none where value is empty.
func setField(record []byte, tag uint64, value []byte) ([]byte, error) {
	rest, err := fieldsOf(record)
	if err != nil {
		return nil, err
	}
	changed := append(make([]byte, 0, len(record)+len(value)+2*binary.MaxVarintLen64), recordFormat)
	done := len(value) == 0
	for after := uint64(0); len(rest) > 0; {
		var f field
		if f, rest, err = nextField(rest, after); err != nil {
			return nil, err
		}
		after = f.tag
		if f.tag >= tag && !done {
			changed, done = appendField(changed, tag, value), true
		}
		if f.tag != tag {
			changed = appendField(changed, f.tag, f.value)
		}
	}
	if !done {
		changed = appendField(changed, tag, value)
	}
	return changed, nil
}

// carryFields returns record with the fields of before that this version does
// not know, so that a record which is written anew keeps them. All of them may
// be passed over: before was read.
func carryFields(record, before []byte, known func(tag uint64) bool) ([]byte, error) {
	rest, err := fieldsOf(before)
	if err != nil {
		return nil, err
	}
	for after := uint64(0); len(rest) > 0; {
		var f field
		if f, rest, err = nextField(rest, after); err != nil {
			return nil, err
		}
		after = f.tag
		if known(f.tag) {
			continue
		}
		if record, err = insertField(record, f); err != nil {
			return nil, err
		}
	}
	return record, nil
}

// insertField puts a field behind all of its tag and below.
func insertField(record []byte, inserted field) ([]byte, error) {
	rest, err := fieldsOf(record)
	if err != nil {
		return nil, err
	}
	at := len(record)
	for len(rest) > 0 {
		begin := len(record) - len(rest)
		var f field
		if f, rest, err = nextField(rest, 0); err != nil {
			return nil, err
		}
		if f.tag > inserted.tag {
			at = begin
			break
		}
	}
	return slices.Concat(record[:at], appendField(nil, inserted.tag, inserted.value), record[at:]), nil
}

// valueOf returns the value of a field that was just written, or none where it
// was left out.
func valueOf(written []byte) ([]byte, error) {
	if len(written) == 0 {
		return nil, nil
	}
	f, _, err := nextField(written, 0)
	return f.value, err
}

// text returns value, which must not change any more, as a string.
func text(value []byte) (string, error) {
	if len(value) == 0 {
		return "", errRecord
	}
	return unsafe.String(unsafe.SliceData(value), len(value)), nil
}

// appendTime writes a time in whole microseconds; the zero time is left out.
func appendTime(record []byte, tag uint64, t time.Time) []byte {
	if t.IsZero() {
		return record
	}
	micros := t.UnixMicro()
	// One more than the zigzag form, since a number is never zero.
	return appendNumber(record, tag, uint64(micros<<1^micros>>63)+1)
}

func moment(value []byte) (time.Time, error) {
	n, err := number(value)
	if err != nil {
		return time.Time{}, err
	}
	n--
	return time.UnixMicro(int64(n>>1) ^ -int64(n&1)).UTC(), nil
}
