package lease

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Stats are counts of what a limiter has done and holds. Counts start at zero
// with the process.
type Stats struct {
	Keys     int64 // keys in memory
	Capacity int64 // how many there may be
	Replicas int   // among which leases are shared out

	Exchanges  uint64 // requests to the engine
	Batches    uint64 // messages with them
	Errors     uint64 // requests of which no answer came
	Leased     uint64 // tokens
	Returned   uint64 // of them, given back
	Charged    uint64 // tokens that keys paid because the engine forgot, or may have forgotten, grants
	Denied     uint64 // calls denied because their key's limit was spent
	Full       uint64 // calls denied because Capacity was reached
	Waits      uint64 // calls that waited for the engine
	WaitErrors uint64 // calls that failed because the engine did not answer
	Opened     uint64 // calls that passed although the engine did not answer, in Open mode
	Failing    bool   // the last exchange failed
}

// Stats returns current counts.
func (l *Limiter) Stats() Stats {
	c := &l.counts
	return Stats{
		Keys: l.keys.Load(), Capacity: l.capacity, Replicas: int(l.replicas.Load()),
		Exchanges: c.exchanges.Load(), Batches: c.batches.Load(), Errors: c.errors.Load(),
		Leased: c.leased.Load(), Returned: c.returned.Load(), Charged: c.charged.Load(),
		Denied: c.denied.Load(), Full: c.full.Load(), Waits: c.waits.Load(), WaitErrors: c.waitErrors.Load(),
		Opened: c.opened.Load(), Failing: l.failing.Load(),
	}
}

type counts struct {
	exchanges, batches, errors, leased, returned, charged, denied, full, waits, waitErrors, opened atomic.Uint64
}

// noteEngine counts failures, has the engine left alone for a moment after
// one that befell all of an exchange, and logs where it goes away or comes
// back.
func (l *Limiter) noteEngine(now instant, grants []Grant) {
	var failed int
	var err error
	for i := range grants {
		if grants[i].Err != nil {
			failed++
			err = grants[i].Err
		}
	}
	l.counts.errors.Add(uint64(failed))
	if failed == len(grants) {
		l.down.Store(now.mono + int64(retryAfter))
	}
	if was := l.failing.Swap(failed > 0); was == (failed > 0) {
		return
	}
	if failed > 0 {
		l.logger.LogAttrs(context.Background(), slog.LevelError, "the engine of shared limits does not answer", slog.Bool("open", l.open), slog.String("error", err.Error()))
		return
	}
	l.logger.LogAttrs(context.Background(), slog.LevelInfo, "the engine of shared limits answers again")
}
