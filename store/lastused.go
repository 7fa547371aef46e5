package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// LastUsedOptions says how often, and of how many keys, a [LastUsed] writes.
type LastUsedOptions struct {
	// Every is how long a use may wait to be written. Zero: 10 seconds.
	Every time.Duration
	// Limit is of about how many keys uses may wait to be written. While more
	// are in use, theirs are dropped and counted. Zero: 1,000,000, which take
	// about 64 MiB when they are all in use.
	Limit int
	// Report is told of each time that uses could not be written; they are
	// kept and tried again. Nil: nobody is told.
	Report func(error)
}

// The defaults of [LastUsedOptions].
const (
	DefaultLastUsedEvery = 10 * time.Second
	DefaultLastUsedLimit = 1_000_000
)

const (
	lastUsedShards = 32 // a power of two
	// lastUsedBatch bounds one change of the store, which other changes wait
	// for.
	lastUsedBatch = 4096
)

// LastUsed notes when keys were last used and writes it behind, in batches. A
// use that was not yet written is lost with the process; [LastUsed.Flush]
// writes all of them.
type LastUsed struct {
	keys    Keys
	options LastUsedOptions
	shards  [lastUsedShards]lastUsedShard
	flush   chan struct{} // holds the right to flush
	batch   map[apikey.KeyID]time.Time
}

type lastUsedShard struct {
	mu      sync.Mutex
	seconds map[apikey.KeyID]int64 // Unix time of uses that are not written
	spare   map[apikey.KeyID]int64 // empty but during a flush, which owns it
	dropped uint64

	_ [64]byte // keeps the locks of two shards off one cache line
}

// NewLastUsed returns a LastUsed that writes to keys once [LastUsed.Run] runs.
func NewLastUsed(keys Keys, o LastUsedOptions) *LastUsed {
	if o.Every <= 0 {
		o.Every = DefaultLastUsedEvery
	}
	if o.Limit <= 0 {
		o.Limit = DefaultLastUsedLimit
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	u := &LastUsed{keys: keys, options: o, flush: make(chan struct{}, 1), batch: map[apikey.KeyID]time.Time{}}
	for i := range u.shards {
		u.shards[i].seconds, u.shards[i].spare = map[apikey.KeyID]int64{}, map[apikey.KeyID]int64{}
	}
	return u
}

// Touch notes that a key was used at now. It takes whole seconds, never moves
// a time back, waits for nothing but other calls of Touch and allocates
// nothing for keys that were in use before.
func (u *LastUsed) Touch(id apikey.KeyID, now time.Time) {
	shard := u.shard(id)
	second := now.Unix()
	shard.mu.Lock()
	shard.note(id, second, u.options.Limit/lastUsedShards+1)
	shard.mu.Unlock()
}

func (u *LastUsed) shard(id apikey.KeyID) *lastUsedShard {
	return &u.shards[uint64(id)%lastUsedShards]
}

func (s *lastUsedShard) note(id apikey.KeyID, second int64, limit int) {
	before, found := s.seconds[id]
	switch {
	case found && before >= second:
	case !found && len(s.seconds) >= limit:
		s.dropped++
	default:
		s.seconds[id] = second
	}
}

// Run writes the noted uses every [LastUsedOptions.Every] until ctx is done;
// it leaves the last ones to [LastUsed.Flush]. It returns nil when ctx is done
// and an error only when there is no use in going on, the store being closed.
func (u *LastUsed) Run(ctx context.Context) error {
	return writeBehind(ctx, u.options.Every, u.Flush, u.options.Report)
}

// Flush writes the uses noted so far. Those that could not be written are
// kept.
func (u *LastUsed) Flush(ctx context.Context) error {
	select {
	case u.flush <- struct{}{}:
		defer func() { <-u.flush }()
	case <-ctx.Done():
		return fmt.Errorf("writing when keys were last used: %w", ctx.Err())
	}
	for i := range u.shards {
		shard := &u.shards[i]
		shard.mu.Lock()
		shard.seconds, shard.spare = shard.spare, shard.seconds
		shard.mu.Unlock()
	}
	defer u.takeBack()
	clear(u.batch)
	for i := range u.shards {
		for id, second := range u.shards[i].spare {
			u.batch[id] = time.Unix(second, 0).UTC()
			if len(u.batch) < lastUsedBatch {
				continue
			}
			if err := u.writeBatch(ctx); err != nil {
				return err
			}
		}
	}
	return u.writeBatch(ctx)
}

func (u *LastUsed) writeBatch(ctx context.Context) error {
	if len(u.batch) == 0 {
		return nil
	}
	if err := u.keys.TouchKeys(ctx, u.batch); err != nil {
		return fmt.Errorf("writing when keys were last used: %w", err)
	}
	for id := range u.batch {
		delete(u.shard(id).spare, id)
	}
	clear(u.batch)
	return nil
}

// takeBack puts what was not written with what was noted meanwhile.
func (u *LastUsed) takeBack() {
	for i := range u.shards {
		shard := &u.shards[i]
		shard.mu.Lock()
		for id, second := range shard.spare {
			shard.note(id, second, u.options.Limit/lastUsedShards+1)
		}
		clear(shard.spare)
		shard.mu.Unlock()
	}
}

// LastUsedStats says how a [LastUsed] is doing.
type LastUsedStats struct {
	Waiting int    // keys with a use that is not written
	Dropped uint64 // uses that were dropped for want of room
}

// Stats returns the present figures.
func (u *LastUsed) Stats() LastUsedStats {
	var stats LastUsedStats
	for i := range u.shards {
		shard := &u.shards[i]
		shard.mu.Lock()
		stats.Waiting += len(shard.seconds)
		stats.Dropped += shard.dropped
		shard.mu.Unlock()
	}
	return stats
}
