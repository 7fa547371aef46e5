package usagefile

import (
	"reflect"
	"testing"

	"github.com/tokenkithq/authz/usage"
)

// Whatever decodes says the same once it is encoded again.
func FuzzDecodeRecord(f *testing.F) {
	r := record{last: 1 << 63, kept: []usage.Period{{Start: 0, Counts: usage.Counts{1}}, {Start: 2880, Counts: usage.Counts{0, 1 << 63, 0, 0, 0, 7}}}}
	r.owed = r.kept
	for n := range levels {
		f.Add(uint8(n), r.encode(nil, n))
	}
	for _, part := range encodeParts([]usage.Delta{{Key: 9, Minute: 5, Counts: usage.Counts{3}}, {Key: 2, Minute: 7, Counts: usage.Counts{0, 0, 1}}}) {
		f.Add(uint8(9), part)
	}
	f.Fuzz(func(t *testing.T, level uint8, value []byte) {
		n := int(level) % len(levels)
		var a, b record
		if a.decode(n, value) == nil {
			if err := b.decode(n, a.encode(nil, n)); err != nil || !reflect.DeepEqual(a, b) {
				t.Fatalf("%+v became %+v: %v", a, b, err)
			}
		}
		var deltas, again []usage.Delta
		if decodePart(value, func(d *usage.Delta) error { deltas = append(deltas, *d); return nil }) != nil {
			return
		}
		for _, part := range encodeParts(deltas) {
			if err := decodePart(part, func(d *usage.Delta) error { again = append(again, *d); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(deltas, again) {
			t.Fatalf("%+v became %+v", deltas, again)
		}
	})
}
