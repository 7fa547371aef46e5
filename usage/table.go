package usage

import (
	"math/bits"

	"github.com/tokenkithq/authz/apikey"
)

// table finds deltas by key and minute. Once it has grown, adding to it
// allocates nothing.
type table struct {
	deltas []Delta
	places []uint32 // by hash: one more than a place in deltas, 0 for none
}

// leastPlaces is a power of two.
const leastPlaces = 64

// slot returns where the place of a delta is, or would be, in t.places. Half
// of these are free, so that it ends soon.
func (t *table) slot(key apikey.KeyID, minute int64) uint64 {
	mask := uint64(len(t.places) - 1)
	// Keys ascend in steps, and so do minutes: the top bits of the product
	// are the ones that depend on all of them.
	hash := (uint64(key) ^ uint64(minute)<<40 ^ uint64(minute)>>24) * 0x9e3779b97f4a7c15
	i := hash >> (bits.LeadingZeros64(mask) & 63)
	for {
		place := t.places[i&mask]
		if place == 0 {
			return i & mask
		}
		if d := &t.deltas[place-1]; d.Key == key && d.Minute == minute {
			return i & mask
		}
		i++
	}
}

// add counts one call. It reports false where that takes a new delta and there
// are limit of them.
func (t *table) add(key apikey.KeyID, minute int64, outcome Outcome, limit int) bool {
	if len(t.places) == 0 {
		t.places = make([]uint32, leastPlaces)
	}
	slot := t.slot(key, minute)
	place := t.places[slot]
	if place == 0 {
		if len(t.deltas) >= limit {
			return false
		}
		if 2*len(t.deltas) >= len(t.places) {
			t.grow()
			slot = t.slot(key, minute)
		}
		t.deltas = append(t.deltas, Delta{Key: key, Minute: minute})
		place = uint32(len(t.deltas))
		t.places[slot] = place
	}
	t.deltas[place-1].Counts[outcome]++
	return true
}

func (t *table) grow() {
	t.places = make([]uint32, 2*len(t.places))
	for i := range t.deltas {
		t.places[t.slot(t.deltas[i].Key, t.deltas[i].Minute)] = uint32(i + 1)
	}
}

// reset empties the table and keeps its room.
func (t *table) reset() {
	if len(t.deltas) > 0 {
		clear(t.places)
		t.deltas = t.deltas[:0]
	}
}
