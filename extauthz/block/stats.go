package block

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counts of what a table has done and holds. Counts start at zero
// with the process.
type Stats struct {
	Addresses int // with an open window, or one that closed a moment ago
	Blocked   int // of them
	Capacity  int

	Blocks      uint64 // times an address became blocked
	Evicted     uint64 // open windows that made room for others
	Refused     uint64 // failures not counted, because all addresses in a full part were blocked
	Exempted    uint64 // failures of addresses that are never blocked
	Unknown     uint64 // calls with an invalid address
	Saves       uint64
	SaveErrors  uint64
	LastSave    time.Time // end of the last save that succeeded; zero: none did
	SaveFailing bool      // the last save failed
}

// Stats returns current counts.
func (t *Table) Stats() Stats {
	c := &t.counts
	c.mu.Lock()
	stats := Stats{
		Blocks:      c.blocks.Load(),
		Evicted:     c.evicted.Load(),
		Refused:     c.refused.Load(),
		Exempted:    c.exempted.Load(),
		Unknown:     c.unknown.Load(),
		Saves:       c.saves,
		SaveErrors:  c.saveErrors,
		LastSave:    c.lastSave,
		SaveFailing: c.failing,
	}
	c.mu.Unlock()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		stats.Addresses += int(s.count)
		stats.Capacity += len(s.entries)
		s.mu.Unlock()
		stats.Blocked += int(s.blockedNow.Load())
	}
	return stats
}

type counts struct {
	blocks, evicted, refused, exempted, unknown atomic.Uint64

	mu         sync.Mutex // guards what follows
	saves      uint64
	saveErrors uint64
	lastSave   time.Time
	failing    bool
}

// noteSave counts a save and logs where saving begins to fail or works again.
func (t *Table) noteSave(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		return // given up, not failed
	}
	c := &t.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.saveErrors++
		if !c.failing {
			t.logger.LogAttrs(ctx, slog.LevelError, "blocked addresses cannot be saved", slog.String("error", err.Error()))
		}
		c.failing = true
		return
	}
	c.saves++
	c.lastSave = t.now()
	if c.failing {
		t.logger.LogAttrs(ctx, slog.LevelInfo, "blocked addresses are saved again")
	}
	c.failing = false
}
