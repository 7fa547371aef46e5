package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tokenkithq/authz/apikey"
)

// CacheOptions says how much a [Cache] keeps.
type CacheOptions struct {
	// Keys is about how many keys are kept, the most recently found ones.
	// Zero: 100,000. A key takes about 600 bytes, and 50 for each entry of
	// its lists; the collector may take as much again.
	Keys int
	// Absent is about how many hashes are kept that belong to no key. Zero:
	// 10,000. One takes about 200 bytes.
	Absent int
	// Fresh returns why the inner store may miss changes that others have
	// acknowledged, or nil. It is asked before each search for a key, which
	// ends with what it returns. Nil: the inner store never does.
	Fresh func() error
}

// The defaults of [CacheOptions].
const (
	DefaultCachedKeys   = 100_000
	DefaultCachedAbsent = 10_000
)

// Cache is a [Store] that keeps the keys found last in memory. All changes to
// keys must be made through it, or be told to [Cache.Follow]; then what it says of a key is what the inner
// store would have said at some moment during the search. So it never returns
// a key whose deletion was acknowledged before the search began, nor one as it
// was before a change that was, and never hides one whose creation was.
//
// Hashes that belong to no key are kept apart from keys, so that whoever tries
// keys at random evicts none that exists.
//
// The time of a cached key's last use is the one it had when it was loaded;
// TouchKeys refreshes none.
//
// # Why no late load brings the past back
//
// A key is entered under the hash by which it was found, so one that was
// rotated may be entered twice. A change is about all hashes that lead to its
// keys before or after it: what an update finds and makes of a key is noted
// while the inner store calls for it, and a deletion returns what it deleted.
// What follows holds for each of these hashes.
//
// Each hash belongs to a shard, and each shard has a generation, which only
// grows. A load notes the generation before it reads the inner store, and
// enters what it read only if the generation is still the same. A change,
// once the inner store has answered and before the caller hears of it, removes
// the hash's entry and advances the generation, both under the shard's lock.
// So take a load that read the state before the change. Either it entered
// that before the change's lock, and the change removed it; or it came after,
// found another generation and entered nothing. A load that notes the new
// generation reads after the inner store has answered, and sees the change.
//
// Before it asks the inner store, a change puts up a mark, and takes it down
// after all of this. While it stands, whoever else learned of the change, from
// a list perhaps, must not be told otherwise: the key that is being changed or
// deleted is read from the inner store however it is cached, that a hash which
// is being given to a key has none is forgotten first and not entered, and no
// search waits for the load of another. For an update, that is before the inner
// store gets what it is to make. Nor does a search ever wait for a load that
// noted an older generation.
//
// A change whose outcome is unknown, as with [ErrUnavailable], may still be
// made after it was answered, which no generation can tell. Its keys remain in
// doubt, and so do the hashes that it gives, even those that it names only
// then: what the inner store says of them is passed on and not entered. Nor do
// searches share a load from then on.
type Cache struct {
	Store  // what is decorated
	shards []*cacheShard
	doubts doubts
	fresh  func() error // nil: always

	loads sync.WaitGroup
}

var _ Store = (*Cache)(nil)

// NewCache decorates inner, which belongs to the Cache from now on.
func NewCache(inner Store, o CacheOptions) *Cache {
	if o.Keys <= 0 {
		o.Keys = DefaultCachedKeys
	}
	if o.Absent <= 0 {
		o.Absent = DefaultCachedAbsent
	}
	c := &Cache{Store: inner, fresh: o.Fresh, shards: make([]*cacheShard, shardCount(min(o.Keys, o.Absent)))}
	for i := range c.shards {
		c.shards[i] = newCacheShard(perShard(o.Keys, len(c.shards)), perShard(o.Absent, len(c.shards)))
	}
	return c
}

// shardCount returns a power of two that leaves each shard enough entries for
// its share of the hashes to be about even.
func shardCount(size int) int {
	n := 64
	for n > 1 && size/n < 64 {
		n /= 2
	}
	return n
}

func perShard(size, shards int) int { return (size + shards - 1) / shards }

func (c *Cache) shard(hash *apikey.Hash) *cacheShard {
	return c.shards[int(hash[0])&(len(c.shards)-1)]
}

// errAbsent is what a hash that is known to belong to no key is answered with;
// making it anew each time would let attackers pay with our allocations.
var errAbsent = fmt.Errorf("finding key: %w", ErrNotFound)

// FindKey implements [Keys]. A key that is cached is found without an
// allocation. Searches for one key that is not cached share a load, as long as
// no change of a key is under way; each ends with its own ctx, and the load
// with the last of them.
func (c *Cache) FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("finding key: %w", err)
	}
	if c.fresh != nil {
		if err := c.fresh(); err != nil {
			return nil, err
		}
	}
	shard := c.shard(&hash)
	shard.mu.Lock()
	if key, found := shard.keys.Get(hash); found && !c.doubts.changing(key.ID) {
		shard.stats.Hits++
		shard.mu.Unlock()
		return key, nil
	}
	if _, found := shard.absent.Get(hash); found {
		shard.stats.AbsentHits++
		shard.mu.Unlock()
		return nil, errAbsent
	}
	if shard.closed {
		shard.mu.Unlock()
		return nil, fmt.Errorf("finding key: %w", ErrClosed)
	}
	l := c.join(ctx, shard, hash)
	shard.mu.Unlock()

	select {
	case <-l.done:
		return l.key, l.err
	case <-ctx.Done():
		shard.leave(l)
		return nil, fmt.Errorf("finding key: %w", ctx.Err())
	}
}

// load is one reading of a key from the inner store.
type load struct {
	generation uint64
	cancel     context.CancelFunc
	waiters    int // guarded by the shard's lock

	done chan struct{}
	key  *apikey.Key // once done
	err  error       // once done
}

// join returns the load to wait for, a new one unless one is under way that
// sees every change which this search must see. The shard must be locked.
func (c *Cache) join(ctx context.Context, shard *cacheShard, hash apikey.Hash) *load {
	if l := shard.loads[hash]; l != nil && l.generation == shard.generation && l.waiters > 0 && c.doubts.none() {
		shard.stats.Shared++
		l.waiters++
		return l
	}
	shard.stats.Misses++
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &load{generation: shard.generation, cancel: cancel, waiters: 1, done: make(chan struct{})}
	shard.loads[hash] = l
	c.loads.Go(func() {
		defer cancel()
		l.key, l.err = c.Store.FindKey(ctx, hash)
		c.settle(shard, hash, l)
		close(l.done)
	})
	return l
}

// settle enters what was loaded, if it may be.
func (c *Cache) settle(shard *cacheShard, hash apikey.Hash, l *load) {
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.loads[hash] == l {
		delete(shard.loads, hash)
	}
	if shard.closed && errors.Is(l.err, context.Canceled) {
		// It was Close that cancelled, before the inner store was closed.
		l.key, l.err = nil, fmt.Errorf("finding key: %w", ErrClosed)
	}
	if shard.generation != l.generation || shard.closed {
		return
	}
	switch {
	case l.err == nil && l.key != nil:
		if c.doubts.mayEnter(l.key.ID) && shard.keys.Add(hash, l.key) {
			shard.stats.Evictions++
		}
	case errors.Is(l.err, ErrNotFound):
		if c.doubts.mayEnterAbsent(hash) {
			shard.absent.Add(hash, struct{}{})
		}
	}
}

// Close implements [Store]: it closes the inner store and waits for loads
// under way.
func (c *Cache) Close() error {
	for _, shard := range c.shards {
		shard.close()
	}
	err := c.Store.Close()
	c.loads.Wait()
	return err
}

// CacheStats counts what a [Cache] did since it was made.
type CacheStats struct {
	Hits       uint64 // searches that found a cached key
	AbsentHits uint64 // searches for a hash that is cached as belonging to no key
	Misses     uint64 // searches that read the inner store
	Shared     uint64 // searches that waited for the reading of another
	Evictions  uint64 // keys that made room for others
	Keys       int    // keys that are cached now
	Absent     int    // hashes without a key that are cached now
}

// Stats returns the counts of all searches that have returned, and perhaps of
// some under way.
func (c *Cache) Stats() CacheStats {
	var sum CacheStats
	for _, shard := range c.shards {
		shard.addTo(&sum)
	}
	return sum
}
