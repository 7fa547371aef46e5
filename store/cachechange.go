package store

import (
	"context"
	"sync"

	"github.com/tokenkithq/authz/apikey"
)

// CreateKey implements [Keys].
func (c *Cache) CreateKey(ctx context.Context, key *apikey.Key, by Actor) (*apikey.Key, error) {
	change := c.begin()
	change.gives(key)
	created, err := c.Store.CreateKey(ctx, key, by)
	change.end(err)
	return created, err
}

// CreateKeys implements [Keys].
func (c *Cache) CreateKeys(ctx context.Context, keys []*apikey.Key, by Actor) ([]*apikey.Key, error) {
	change := c.begin()
	for _, key := range keys {
		change.gives(key)
	}
	created, err := c.Store.CreateKeys(ctx, keys, by)
	change.end(err)
	return created, err
}

// UpdateKey implements [Keys]. Once it has returned, no search that begins
// afterwards finds the key in the cache as it was, whatever the error.
func (c *Cache) UpdateKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, change func(*apikey.Key) error, by Actor) (*apikey.Key, error) {
	made := c.begin(id)
	updated, err := c.Store.UpdateKey(ctx, owner, id, func(key *apikey.Key) error {
		made.takes(key)
		if err := change(key); err != nil {
			return refusal{err}
		}
		made.gives(key)
		return nil
	}, by)
	made.end(err)
	return updated, err
}

// DeleteKey implements [Keys]. Once it has returned, no search that begins
// afterwards finds the key in the cache, whatever the error.
func (c *Cache) DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, by Actor) (*apikey.Key, error) {
	change := c.begin(id)
	deleted, err := c.Store.DeleteKey(ctx, owner, id, by)
	if err == nil {
		change.takes(deleted)
	}
	change.end(err)
	return deleted, err
}

// DeleteKeys implements [Keys], as [Cache.DeleteKey] does.
func (c *Cache) DeleteKeys(ctx context.Context, owner apikey.UserID, ids []apikey.KeyID, by Actor) ([]*apikey.Key, error) {
	change := c.begin(ids...)
	deleted, err := c.Store.DeleteKeys(ctx, owner, ids, by)
	if err == nil {
		for _, key := range deleted {
			change.takes(key)
		}
	}
	change.end(err)
	return deleted, err
}

// cacheChange is a change under way: the keys that it changes, the hashes that
// it may take from them and those that it may give. An inner store may call
// what it was given even after the change was answered, so it is locked.
type cacheChange struct {
	cache *Cache
	ids   []apikey.KeyID

	mu    sync.Mutex
	taken map[apikey.Hash]struct{}
	given map[apikey.Hash]struct{}
	ended bool
}

// begin marks the keys with these ids as being changed.
func (c *Cache) begin(ids ...apikey.KeyID) *cacheChange {
	for _, id := range ids {
		c.doubts.beginChange(id)
	}
	return &cacheChange{cache: c, ids: ids, taken: map[apikey.Hash]struct{}{}, given: map[apikey.Hash]struct{}{}}
}

// takes notes the hashes by which a key is found before the change.
func (m *cacheChange) takes(key *apikey.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, hash := range hashesOf(key) {
		m.taken[hash] = struct{}{}
	}
}

// gives notes the hashes by which a key is found after the change: from now on
// it is not known that one of them belongs to no key.
func (m *cacheChange) gives(key *apikey.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, hash := range hashesOf(key) {
		if _, noted := m.given[hash]; noted {
			continue
		}
		m.given[hash] = struct{}{}
		m.cache.doubts.beginCreate(hash)
		m.cache.shard(&hash).forget(hash)
		if m.ended {
			// Its outcome was unknown, and so is that of this attempt.
			m.cache.doubts.endCreate(hash, false)
		}
	}
}

func hashesOf(key *apikey.Key) []apikey.Hash {
	if key.PreviousHash == (apikey.Hash{}) {
		return []apikey.Hash{key.Hash}
	}
	return []apikey.Hash{key.Hash, key.PreviousHash}
}

// end forgets what the change made untrue, and takes down its marks. Where its
// outcome is unknown, the doubts come first: what is entered before them is
// removed, and nothing is entered after them.
func (m *cacheChange) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	c, unknown := m.cache, uncertain(err)
	if unknown {
		for _, id := range m.ids {
			c.doubts.keepDoubting(id)
		}
		for _, shard := range c.shards {
			shard.forgetIDs(m.ids)
		}
	}
	for hash := range m.taken {
		c.shard(&hash).forget(hash)
	}
	for hash := range m.given {
		c.shard(&hash).forget(hash)
		c.doubts.endCreate(hash, !unknown)
	}
	for _, id := range m.ids {
		c.doubts.endChange(id)
	}
}
