package store

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/tokenkithq/authz/apikey"
)

// cacheShard is the part of a [Cache] that holds the hashes with one ending of
// their first byte.
type cacheShard struct {
	mu         sync.Mutex
	keys       *simplelru.LRU[apikey.Hash, *apikey.Key]
	absent     *simplelru.LRU[apikey.Hash, struct{}]
	loads      map[apikey.Hash]*load
	generation uint64
	closed     bool
	stats      CacheStats // but for the sizes

	_ [64]byte // keeps the locks of two shards off one cache line
}

func newCacheShard(keys, absent int) *cacheShard {
	s := &cacheShard{loads: map[apikey.Hash]*load{}}
	// The only error is that of a size that is not positive.
	s.keys, _ = simplelru.NewLRU[apikey.Hash, *apikey.Key](max(keys, 1), nil)
	s.absent, _ = simplelru.NewLRU[apikey.Hash, struct{}](max(absent, 1), nil)
	return s
}

// forget removes what is known of hash and makes loads under way enter nothing.
func (s *cacheShard) forget(hash apikey.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.keys.Remove(hash)
	s.absent.Remove(hash)
}

// forgetID is forget for a key whose hash is not known. It looks at every key
// of the shard, without making any of them more recent.
func (s *cacheShard) forgetID(id apikey.KeyID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	for _, hash := range s.keys.Keys() {
		if key, _ := s.keys.Peek(hash); key != nil && key.ID == id {
			s.keys.Remove(hash)
		}
	}
}

// leave ends one wait for l, and l with the last one.
func (s *cacheShard) leave(l *load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.waiters--; l.waiters == 0 {
		l.cancel()
	}
}

// close ends all loads and lets no other begin.
func (s *cacheShard) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.keys.Purge()
	s.absent.Purge()
	for _, l := range s.loads {
		l.cancel()
	}
}

func (s *cacheShard) addTo(sum *CacheStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Hits += s.stats.Hits
	sum.AbsentHits += s.stats.AbsentHits
	sum.Misses += s.stats.Misses
	sum.Shared += s.stats.Shared
	sum.Evictions += s.stats.Evictions
	sum.Keys += s.keys.Len()
	sum.Absent += s.absent.Len()
}

// maxDoubts bounds the ids, and the hashes, whose change has an unknown
// outcome. Beyond it nothing more is cached: slow, and right.
const maxDoubts = 10_000

// doubts are the keys of which a change was answered without being known to be
// made or not, so that it may come to be at any time.
type doubts struct {
	mu     sync.Mutex
	ids    map[apikey.KeyID]apikey.UserID // perhaps being deleted, if of this owner; zero: whoever's
	hashes map[apikey.Hash]struct{}       // perhaps being created
	lost   bool                           // there were more than maxDoubts
}

func (d *doubts) addID(owner apikey.UserID, id apikey.KeyID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost = d.lost || len(d.ids) >= maxDoubts; d.lost {
		return
	}
	if d.ids == nil {
		d.ids = map[apikey.KeyID]apikey.UserID{}
	}
	if other, found := d.ids[id]; found && other != owner {
		owner = 0
	}
	d.ids[id] = owner
}

func (d *doubts) addHash(hash apikey.Hash) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost = d.lost || len(d.hashes) >= maxDoubts; d.lost {
		return
	}
	if d.hashes == nil {
		d.hashes = map[apikey.Hash]struct{}{}
	}
	d.hashes[hash] = struct{}{}
}

// settle ends the doubt about a key that is known to be deleted.
func (d *doubts) settle(id apikey.KeyID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ids, id)
}

// mayKeep reports whether a key that was found may be cached: not while it is
// perhaps being deleted. That it was found ends a doubt about its creation.
func (d *doubts) mayKeep(key *apikey.Key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.hashes, key.Hash)
	owner, doubtful := d.ids[key.ID]
	if doubtful && owner != 0 && owner != key.Owner {
		delete(d.ids, key.ID) // the deletion was of somebody else's key and never takes place
		doubtful = false
	}
	return !doubtful && !d.lost
}

// mayKeepAbsent reports whether it may be cached that no key has hash: not
// while one is perhaps being created.
func (d *doubts) mayKeepAbsent(hash apikey.Hash) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, doubtful := d.hashes[hash]
	return !doubtful && !d.lost
}
