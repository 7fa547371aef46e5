package store

import (
	"context"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// KeyChange says which keys somebody else has changed, made or deleted.
type KeyChange struct {
	IDs []apikey.KeyID
	// Hashes are all by which these keys were found before, or are found now.
	Hashes []apikey.Hash
	// Used are keys that were used, and when.
	Used map[apikey.KeyID]time.Time
}

// Follow forgets what a change made untrue. It must be called once the inner
// store has the change, and before anybody is told that it is made; see [Cache]
// for why that is enough. An [Index] below is to be told as well.
func (c *Cache) Follow(change KeyChange) {
	for _, hash := range change.Hashes {
		c.shard(&hash).forget(hash)
	}
}

// Follow reads again what a change was about. It must be called once the inner
// store has the change, and before anybody is told that it is made.
func (x *Index) Follow(change KeyChange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, id := range change.IDs {
		if x.during != nil {
			x.during[id] = struct{}{}
		}
		x.refresh(context.Background(), id)
	}
	for id, at := range change.Used {
		switch {
		case x.table != nil:
			x.table.touch(id, at)
		case x.during != nil:
			x.during[id] = struct{}{}
		}
	}
}
