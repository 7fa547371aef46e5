package block

import (
	"sync"
	"sync/atomic"

	"github.com/tokenkithq/authz/apikey"
)

// shardCount is a power of two.
const shardCount = 256

func (t *Table) shardOf(hash uint64) *shard { return &t.shards[hash>>56] }

// none is no place in a shard.
const none = ^uint32(0)

// entry is an address with an open window. Times are in milliseconds.
type entry struct {
	bits     uint64 // see id
	opened   int64
	since    uint32 // after opened: when it was blocked
	failures uint32
	chain    uint32 // next entry of the same bucket, or next free one
	prev     uint32 // neighbours in the list it belongs to
	next     uint32
	four     bool // see id
	reason   apikey.Reason
	blocked  bool
	dirty    bool // differs from what the journal has
	saved    bool // the journal has it, or may
	// Of the place, whatever entry stands there: it is in shard.dirty, in
	// shard.urgent.
	listed, listedUrgent bool
}

func (e *entry) id() id { return id{e.bits, e.four} }

func (e *entry) list() int {
	if e.blocked {
		return blocked
	}
	return waiting
}

// The lists of a shard, each by ascending time of opening.
const (
	waiting = iota // not blocked
	blocked
	listCount
)

type list struct{ first, last uint32 }

// shard is one of the equal parts of a table. It is as large as it will ever
// be from the start, but memory is only used once an entry is.
type shard struct {
	mu         sync.Mutex
	hasher     hasher
	window     int64
	blockedNow atomic.Int32 // entries in the list of blocked ones
	latest     int64        // latest reading of the clock
	entries    []entry
	used       uint32   // entries that were ever used
	free       uint32   // first of those that are free again
	count      uint32   // entries in use
	buckets    []uint32 // one more than the place of each chain's first entry
	lists      [listCount]list
	urgent     []uint32 // places of entries to save: those newly blocked,
	dirty      []uint32 // and others
	gone       []id     // entries that the journal may forget
	lifted     []id     // entries that the journal must forget
}

func (s *shard) init(capacity int, hasher hasher, window int64) {
	buckets := 1
	for buckets < capacity {
		buckets *= 2
	}
	s.hasher, s.window = hasher, window
	s.entries = make([]entry, capacity)
	s.buckets = make([]uint32, buckets)
	s.free = none
	for i := range s.lists {
		s.lists[i] = list{none, none}
	}
}

// advance returns the time that counts: a reading older than one that came
// before counts as that one. It forgets a few windows that are over, more than
// one call can open.
func (s *shard) advance(at int64) int64 {
	s.latest = max(s.latest, at)
	for i := range s.lists {
		for range 4 {
			first := s.lists[i].first
			if first == none || !s.over(&s.entries[first]) {
				break
			}
			s.drop(first)
		}
	}
	return s.latest
}

// over reports whether an entry's window is closed.
func (s *shard) over(e *entry) bool { return s.latest-e.opened >= s.window }

func (s *shard) bucket(hash uint64) *uint32 { return &s.buckets[hash&uint64(len(s.buckets)-1)] }

// find returns the entry of an address whose window is open.
func (s *shard) find(i id, hash uint64) (*entry, uint32) {
	for place := *s.bucket(hash) - 1; place != none; place = s.entries[place].chain {
		e := &s.entries[place]
		if e.bits != i.bits || e.four != i.four {
			continue
		}
		if s.over(e) {
			s.drop(place)
			break
		}
		return e, place
	}
	return nil, none
}

// open opens a window, at the expense of the oldest one of an address that is
// not blocked where the shard is full, or returns nil where all are blocked.
func (s *shard) open(i id, hash uint64, at int64) (e *entry, place uint32, evicted bool) {
	if s.count == uint32(len(s.entries)) {
		unblocked, longest := s.lists[waiting].first, s.lists[blocked].first
		switch {
		case longest != none && s.over(&s.entries[longest]):
			s.drop(longest)
		case unblocked != none:
			evicted = !s.over(&s.entries[unblocked])
			s.drop(unblocked)
		default:
			return nil, none, false
		}
	}
	place = s.free
	if place != none {
		s.free = s.entries[place].chain
	} else {
		place = s.used
		s.used++
	}
	s.count++
	e = &s.entries[place]
	bucket := s.bucket(hash)
	*e = entry{
		bits: i.bits, four: i.four, opened: at, chain: *bucket - 1,
		listed: e.listed, listedUrgent: e.listedUrgent,
	}
	*bucket = place + 1
	s.link(place)
	return e, place, evicted
}

// link puts an entry into its list, from the end: that is its place unless it
// was long in becoming blocked.
func (s *shard) link(place uint32) {
	e := &s.entries[place]
	l := &s.lists[e.list()]
	next, prev := none, l.last
	for prev != none && s.entries[prev].opened > e.opened {
		next, prev = prev, s.entries[prev].prev
	}
	e.prev, e.next = prev, next
	if prev == none {
		l.first = place
	} else {
		s.entries[prev].next = place
	}
	if next == none {
		l.last = place
	} else {
		s.entries[next].prev = place
	}
	if e.blocked {
		s.blockedNow.Add(1)
	}
}

func (s *shard) unlink(place uint32) {
	e := &s.entries[place]
	l := &s.lists[e.list()]
	if e.prev == none {
		l.first = e.next
	} else {
		s.entries[e.prev].next = e.next
	}
	if e.next == none {
		l.last = e.prev
	} else {
		s.entries[e.next].prev = e.prev
	}
	if e.blocked {
		s.blockedNow.Add(-1)
	}
}

func (s *shard) block(place uint32) {
	s.unlink(place)
	s.entries[place].blocked = true
	s.link(place)
}

// drop forgets an entry.
func (s *shard) drop(place uint32) {
	s.unlink(place)
	e := &s.entries[place]
	before := s.bucket(s.hasher.hash(e.id()))
	if *before-1 == place {
		*before = e.chain + 1
	} else {
		before = &s.entries[*before-1].chain
		for *before != place {
			before = &s.entries[*before].chain
		}
		*before = e.chain
	}
	if e.saved {
		s.forget(e.id())
	}
	*e = entry{chain: s.free, listed: e.listed, listedUrgent: e.listedUrgent}
	s.free = place
	s.count--
}

// forget has the journal forget an address sooner or later. One that fails for
// long must not fill the memory: what it keeps of windows that are over does
// no harm and goes with the next start.
func (s *shard) forget(i id) {
	if len(s.gone) < len(s.entries) {
		s.gone = append(s.gone, i)
	}
}

func (s *shard) markDirty(place uint32, urgent bool) {
	e := &s.entries[place]
	e.dirty = true
	if urgent && !e.listedUrgent {
		e.listedUrgent = true
		s.urgent = append(s.urgent, place)
	}
	if !urgent && !e.listed && !e.listedUrgent {
		e.listed = true
		s.dirty = append(s.dirty, place)
	}
}
