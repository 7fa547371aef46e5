package lease

import (
	"math"
	"sync"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// shardCount is a power of two.
const shardCount = 256

// blockEntries is how many entries are allocated at once.
const blockEntries = 64

// shard holds what is known of some of the keys. Entries stand in blocks that
// never move and hold no pointers, so that a million of them cost the garbage
// collector nothing.
type shard struct {
	mu      sync.Mutex
	index   map[apikey.KeyID]uint32 // place of each key's entry
	blocks  []*[blockEntries]entry
	free    []uint32
	hand    uint32 // where to look next for an entry to reuse
	pending map[apikey.KeyID]*pending
	// Leases that have not been given back, in the order in which they end:
	// short ones and long ones.
	endings [2]endings
}

// pending is what waits for the engine to answer about a key.
type pending struct {
	waiting []*waiter
	back    []Back // with what is in flight apart
	until   int64  // when back is given up
}

type waiter struct {
	tokens uint32
	gone   bool
	done   chan outcome // has room for one
}

type outcome struct {
	result limit.Result
	err    error
}

// entry is what is known of a key.
type entry struct {
	key         apikey.KeyID
	seen        uint64 // Total of the last grant
	seenAt      int64  // when that was
	deniedUntil int64
	dry         time.Duration // for how long a denial is remembered
	resetAt     int64
	taken       uint32 // tokens spent since the last grant
	limit       uint32
	size        uint32  // how many tokens to hold
	low         uint32  // with how many it is time to lease more
	demand      float32 // part of what all replicas lease that this one does
	engineLeft  uint32
	used        bool
	known       bool // engineLeft and resetAt are
	flying      bool // an exchange is under way or queued
	hungry      bool // its stock runs low
	leases      [maxLeases]granted
}

// maxLeases is how many leases of a key a replica holds at once.
const maxLeases = 3

// granted is a lease as its replica holds it. Leases without tokens are not
// there.
type granted struct {
	number  uint64
	end     int64 // monotonic
	wallEnd int64
	left    uint32
	tokens  uint32
}

func (g *granted) live(at instant) bool { return g.left > 0 && at.mono < g.end && at.wall < g.wallEnd }

func (e *entry) left(at instant) (sum uint32) {
	for i := range e.leases {
		if e.leases[i].live(at) {
			sum += e.leases[i].left
		}
	}
	return sum
}

// take spends tokens from the leases that end first.
func (e *entry) take(n uint32, at instant) bool {
	if e.left(at) < n {
		return false
	}
	e.taken += min(n, math.MaxUint32-e.taken)
	for n > 0 {
		var first *granted
		for i := range e.leases {
			if g := &e.leases[i]; g.live(at) && (first == nil || g.end < first.end) {
				first = g
			}
		}
		some := min(n, first.left)
		first.left -= some
		n -= some
	}
	return true
}

// runsLow reports whether it is time to lease more before anybody waits.
func (e *entry) runsLow(at instant) bool {
	return e.size > 1 && e.engineLeft > 0 && at.mono >= e.deniedUntil && e.left(at) <= e.low
}

func (e *entry) result(at instant, allowed bool) limit.Result {
	result := limit.Result{Allowed: allowed, Limit: e.limit, Remaining: min(e.limit, e.left(at)+e.engineLeft)}
	reset := e.resetAt - at.mono
	if reset <= 0 { // it passed, and what comes next is not known
		reset = int64(time.Minute)
		if !allowed {
			reset = max(e.deniedUntil-at.mono, int64(time.Millisecond))
		}
	}
	result.Reset = time.Duration(reset)
	return result
}

// patient reports whether tokens may be given back with the next exchange,
// which comes before long, because others have enough.
func (e *entry) patient(at instant) bool {
	return e.left(at) > 0 && e.engineLeft > e.limit/8
}

// room returns where a lease can be put, or nil.
func (e *entry) room() *granted {
	for i := range e.leases {
		if e.leases[i].left == 0 {
			return &e.leases[i]
		}
	}
	return nil
}

// idle reports whether an entry holds nothing that must not be forgotten.
func (e *entry) idle() bool {
	if e.flying {
		return false
	}
	for i := range e.leases {
		if e.leases[i].left > 0 {
			return false
		}
	}
	return true
}

func (s *shard) at(place uint32) *entry { return &s.blocks[place/blockEntries][place%blockEntries] }

func (s *shard) find(id apikey.KeyID) (*entry, uint32) {
	place, found := s.index[id]
	if !found {
		return nil, 0
	}
	return s.at(place), place
}

func (s *shard) pend(id apikey.KeyID) *pending {
	p := s.pending[id]
	if p == nil {
		p = &pending{}
		s.pending[id] = p
	}
	return p
}

// unpend forgets that nothing waits any more.
func (s *shard) unpend(id apikey.KeyID) {
	if p := s.pending[id]; p != nil && len(p.waiting) == 0 && len(p.back) == 0 {
		delete(s.pending, id)
	}
}

// claim makes an entry for a key, or returns nil where all are in use.
func (l *Limiter) claim(s *shard, id apikey.KeyID) (*entry, uint32) {
	if l.keys.Load() >= l.capacity && !l.reuse(s) {
		return nil, 0
	}
	if len(s.free) == 0 {
		base := uint32(len(s.blocks)) * blockEntries
		s.blocks = append(s.blocks, new([blockEntries]entry))
		for i := range uint32(blockEntries) {
			s.free = append(s.free, base+blockEntries-1-i)
		}
	}
	place := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	e := s.at(place)
	*e = entry{key: id, used: true, size: 1}
	s.index[id] = place
	l.keys.Add(1)
	return e, place
}

// reuse forgets a key without leases to make room for another. It looks at a
// few.
func (l *Limiter) reuse(s *shard) bool {
	count := uint32(len(s.blocks)) * blockEntries
	for range min(count, 2*blockEntries) {
		s.hand = (s.hand + 1) % count
		if e := s.at(s.hand); e.used && e.idle() && s.pending[e.key] == nil {
			l.forget(s, s.hand)
			return true
		}
	}
	return false
}

func (l *Limiter) forget(s *shard, place uint32) {
	e := s.at(place)
	delete(s.index, e.key)
	*e = entry{}
	s.free = append(s.free, place)
	l.keys.Add(-1)
}

// relimit gives up what was leased under another limit.
func (s *shard) relimit(e *entry, most uint32) {
	for i := range e.leases {
		s.giveUp(e, &e.leases[i])
	}
	e.limit, e.size, e.known, e.engineLeft, e.deniedUntil = most, 1, false, 0, 0
}

// giveUp has a lease given back with the next exchange. The replica is that of
// all leases and filled in when they are.
func (s *shard) giveUp(e *entry, g *granted) {
	if g.left > 0 {
		p := s.pend(e.key)
		p.back = append(p.back, Back{Lease: ID{Number: g.number}, Unused: g.left})
	}
	*g = granted{}
}

// dropEnded gives up leases whose time has passed, and reports whether any
// was.
func (s *shard) dropEnded(e *entry, at instant) (any bool) {
	for i := range e.leases {
		if g := &e.leases[i]; g.left > 0 && !g.live(at) {
			s.giveUp(e, g)
			any = true
		}
	}
	return any
}

func (l *Limiter) shardOf(id apikey.KeyID) *shard {
	// The high bits of a multiplication by an odd number near 2^64 divided by
	// the golden ratio spread consecutive ids over all shards.
	return &l.shards[uint64(id)*0x9e3779b97f4a7c15>>56]
}
