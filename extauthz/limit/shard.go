package limit

import (
	"sync"

	"github.com/tokenkithq/authz/apikey"
)

// blockRings is how many rings are allocated, and swept, at once.
const blockRings = 64

// shard holds the rings of some of the keys. Rings stand in blocks that never
// move and hold no pointers, so that a million of them cost the garbage
// collector nothing.
type shard struct {
	mu     sync.Mutex
	index  map[apikey.KeyID]uint32 // place of each key's ring
	blocks []*[blockRings]ring
	free   []uint32       // places of unused rings
	swept  int            // block to sweep next
	dirty  []uint32       // places of rings with calls to save
	gone   []apikey.KeyID // keys whose records are to be deleted
	_      [24]byte       // keeps neighbours' locks off this one's cache line
}

func (s *shard) ring(place uint32) *ring {
	return &s.blocks[place/blockRings][place%blockRings]
}

func (s *shard) find(id apikey.KeyID) (*ring, uint32) {
	place, found := s.index[id]
	if !found {
		return nil, 0
	}
	return s.ring(place), place
}

// take gives a key an empty ring.
func (s *shard) take(id apikey.KeyID, at int64) (*ring, uint32) {
	if len(s.free) == 0 {
		first := uint32(len(s.blocks) * blockRings)
		s.blocks = append(s.blocks, new([blockRings]ring))
		for i := range uint32(blockRings) {
			s.free = append(s.free, first+blockRings-1-i)
		}
	}
	place := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	r := s.ring(place)
	*r = ring{key: id, seen: at, used: true}
	s.index[id] = place
	return r, place
}

func (s *shard) markDirty(r *ring, place uint32) {
	if !r.dirty {
		r.dirty = true
		s.dirty = append(s.dirty, place)
	}
}

// sweep reclaims the rings of one block of a shard that have no token out and
// nothing to save.
func (l *Limiter) sweep(s *shard, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.blocks) == 0 {
		return
	}
	s.swept %= len(s.blocks)
	block := s.blocks[s.swept]
	for i := range block {
		r := &block[i]
		if !r.used || r.dirty || r.saving {
			continue
		}
		if r.advance(at); r.out > 0 || l.unsettled(r, at) {
			continue
		}
		delete(s.index, r.key)
		s.free = append(s.free, uint32(s.swept*blockRings+i))
		if l.journal != nil {
			s.gone = append(s.gone, r.key)
		}
		*r = ring{}
		l.rings.Add(-1)
	}
	s.swept++
}

// claim gives a new key a ring, or nil where all are taken by keys with
// tokens out. s is locked, but may be unlocked for a moment.
func (l *Limiter) claim(s *shard, id apikey.KeyID, at int64) (*ring, uint32) {
	if l.rings.Add(1) > l.capacity {
		l.rings.Add(-1)
		s.mu.Unlock()
		// A few blocks of wherever the sweep is: a bounded search, which finds
		// a ring soon where many are idle.
		for range 8 {
			l.sweepNext(at)
		}
		s.mu.Lock()
		if l.closed.Load() {
			return nil, 0
		}
		if r, place := s.find(id); r != nil {
			return r, place
		}
		if l.rings.Add(1) > l.capacity {
			l.rings.Add(-1)
			return nil, 0
		}
	}
	return s.take(id, at)
}

// sweepNext sweeps a block of the next shard in turn.
func (l *Limiter) sweepNext(at int64) {
	l.sweep(&l.shards[l.cursor.Add(1)%shardCount], at)
}

// sweepSome sweeps a share of all blocks, so that Run gets through them in
// about a minute.
func (l *Limiter) sweepSome(at int64, share int) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		blocks := len(s.blocks)
		s.mu.Unlock()
		for range (blocks + share - 1) / share {
			l.sweep(s, at)
		}
	}
}
