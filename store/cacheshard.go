package store

import (
	"slices"
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

// forgetIDs removes keys whose hashes are not known. It looks at every key of
// the shard, without making any of them more recent.
func (s *cacheShard) forgetIDs(ids []apikey.KeyID) {
	if len(ids) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hash := range s.keys.Keys() {
		if key, _ := s.keys.Peek(hash); key != nil && slices.Contains(ids, key.ID) {
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
