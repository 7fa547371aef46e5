package shared

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/extauthz/block"
)

// Run hears of what the other replicas block and unblock, all that is blocked
// at first. It returns nil once ctx is done or the table closed.
func (t *Table) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { t.listen(ctx) })
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for {
		t.hear(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.closed:
			return nil
		case <-tick.C:
		case <-t.rung:
		}
	}
}

// Close ends Run. It does not close what [Options] name.
func (t *Table) Close() { t.closing.Do(func() { close(t.closed) }) }

// listen has Run look for changes whenever the backend tells of some.
func (t *Table) listen(ctx context.Context) {
	for ctx.Err() == nil {
		_ = t.backend.Listen(ctx, func() { // Run asks without it too, and notes what fails
			select {
			case t.rung <- struct{}{}:
			default:
			}
		})
		pause := time.NewTimer(retryAfter)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// hear asks for changes until there are no more.
func (t *Table) hear(ctx context.Context) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		changes, err := t.backend.Changes(bounded, t.replica, t.heard)
		cancel()
		now := t.now() // after the answer, so that no block ends early
		if ctx.Err() != nil {
			return
		}
		t.note(err)
		if err != nil {
			return
		}
		if changes.Last < t.heard {
			t.heard = 0
			continue
		}
		for _, remote := range changes.Blocked {
			t.local.Adopt(remote, false, now)
		}
		for _, prefix := range changes.Unblocked {
			t.local.Unblock(prefix.Addr(), now)
		}
		t.counts.changes.Add(uint64(len(changes.Blocked) + len(changes.Unblocked)))
		if changes.Number <= t.heard {
			return
		}
		t.heard = changes.Number
	}
}

// Stats are counts of what a table has done. Counts start at zero with the
// process.
type Stats struct {
	block.Stats
	Told      uint64 // failures counted for all replicas
	Alone     uint64 // failures counted by this replica alone, those that never count included
	Late      uint64 // of them, because the backend took too long
	Overflows uint64 // of them, because too many waited to be told
	Changes   uint64 // blocks and unblocks heard of
	Waiting   int    // failures that wait to be told
	Unsettled uint64 // blocks and unblocks that not all replicas knew of in time
	Errors    uint64 // exchanges with the backend that failed
	Failing   bool   // the last one failed
}

// Stats returns current counts.
func (t *Table) Stats() Stats {
	c := &t.counts
	t.queue.mu.Lock()
	waiting := len(t.queue.waiting)
	t.queue.mu.Unlock()
	return Stats{
		Stats: t.local.Stats(), Told: c.told.Load(), Alone: c.alone.Load(), Late: c.late.Load(), Overflows: c.overflows.Load(),
		Waiting: waiting, Changes: c.changes.Load(), Unsettled: c.unsettled.Load(), Errors: c.errors.Load(), Failing: t.failing.Load(),
	}
}

type counts struct{ told, alone, late, overflows, changes, unsettled, errors atomic.Uint64 }
