package limit

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are counts of what a limiter has done and holds. Counts start at zero
// with the process.
type Stats struct {
	Keys     int64 // keys in memory: those with tokens out, and those not yet reclaimed
	Capacity int64 // how many there may be

	Denied      uint64 // calls denied because their key's limit was spent
	Full        uint64 // calls denied because Capacity was reached
	Waits       uint64 // calls that had to wait for their saving
	WaitErrors  uint64 // calls whose saving did not come in time
	Charged     uint64 // tokens that keys paid for unclean stops
	Saves       uint64
	SaveErrors  uint64
	LastSave    time.Time // end of the last save that succeeded; zero: none did
	Unclean     uint32    // unclean stops the journal has seen in all
	SaveFailing bool      // the last save failed
}

// Stats returns current counts.
func (l *Limiter) Stats() Stats {
	c := &l.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Keys:        l.rings.Load(),
		Capacity:    l.capacity,
		Denied:      c.denied.Load(),
		Full:        c.full.Load(),
		Waits:       c.waits.Load(),
		WaitErrors:  c.waitErrors.Load(),
		Charged:     c.charged.Load(),
		Saves:       c.saves,
		SaveErrors:  c.saveErrors,
		LastSave:    c.lastSave,
		Unclean:     l.lastStop,
		SaveFailing: c.failing,
	}
}

type counts struct {
	denied, full, waits, waitErrors, charged atomic.Uint64

	mu         sync.Mutex // guards what follows
	saves      uint64
	saveErrors uint64
	lastSave   time.Time
	failing    bool
}

// noteSave counts a save and logs where saving begins to fail or works again.
func (l *Limiter) noteSave(ctx context.Context, err error) {
	if err != nil && ctx.Err() != nil {
		return // given up, not failed
	}
	c := &l.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.saveErrors++
		if !c.failing {
			l.logger.LogAttrs(ctx, slog.LevelError, "limits cannot be saved", slog.String("error", err.Error()))
		}
		c.failing = true
	default:
		c.saves++
		c.lastSave = l.now()
		if c.failing {
			l.logger.LogAttrs(ctx, slog.LevelInfo, "limits are saved again")
		}
		c.failing = false
	}
}
