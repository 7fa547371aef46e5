package usage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Defaults of [Options].
const (
	DefaultEvery     = 500 * time.Millisecond
	DefaultFoldEvery = time.Minute
	DefaultCapacity  = 1 << 18
)

// Options say how a [Recorder] works. Journal must be set.
type Options struct {
	Journal Journal
	// Every is how often what was recorded is written. Zero: [DefaultEvery].
	Every time.Duration
	// FoldEvery is how often the log is folded into the histories of keys.
	// Zero: [DefaultFoldEvery].
	FoldEvery time.Duration
	// Capacity is how many pairs of key and minute may wait in memory to be
	// written, and how many to be folded, before that is hurried. One takes 64
	// bytes, and at most about 300 on its way. Zero: [DefaultCapacity].
	Capacity int
	// Report hears of failures to write, the first of each row of them. Nil:
	// nobody does.
	Report func(error)
	// Now is the clock of retention; calls bring their own time. Nil:
	// [time.Now].
	Now func() time.Time
}

// shards is a power of two.
const shards = 64

// Recorder counts calls. Its methods may be called concurrently.
type Recorder struct {
	journal Journal
	options Options
	shards  [shards]shard

	turn    chan struct{} // holds the right to write
	pending *Entry        // appended, but not known to be durable; guarded by turn
	spare   []Delta       // for the next entry; guarded by turn
	cycle   cycle         // guarded by turn
	failing bool          // guarded by turn

	mu        sync.Mutex
	number    uint64                     // the last one that was used
	open      map[apikey.KeyID][]Period  // logged, or about to be, but not folded
	waiting   int                        // periods in open
	folding   *Fold                      // no longer in open and perhaps not yet in histories
	forgotten map[apikey.KeyID]forgotten // of the last minute

	failures atomic.Uint64
}

type shard struct {
	mu      sync.Mutex
	table   table
	drained table // owned by whoever drains
	dropped uint64

	_ [64]byte // keeps the locks of two shards off one cache line
}

// New returns a Recorder that goes on where the journal ends.
func New(ctx context.Context, o Options) (*Recorder, error) {
	if o.Journal == nil {
		return nil, errors.New("usage: Journal must be set")
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	if o.FoldEvery <= 0 {
		o.FoldEvery = DefaultFoldEvery
	}
	if o.Capacity <= 0 {
		o.Capacity = DefaultCapacity
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Recorder{
		journal: o.Journal, options: o, turn: make(chan struct{}, 1),
		open: map[apikey.KeyID][]Period{}, forgotten: map[apikey.KeyID]forgotten{},
	}
	last, err := o.Journal.Replay(ctx, r.openDelta)
	if err != nil {
		return nil, fmt.Errorf("reading the log of usage: %w", err)
	}
	r.number = last
	return r, nil
}

// Record counts a call of a key at now. Reasons that are not about a known key
// are ignored. It waits for nothing but other calls of Record, and allocates
// nothing for a key that was in use before.
func (r *Recorder) Record(id apikey.KeyID, reason apikey.Reason, now time.Time) {
	outcome, known := OutcomeOf(reason)
	if !known || id <= 0 {
		return
	}
	minute := minuteOf(now)
	s := r.shard(id)
	s.mu.Lock()
	if !s.table.add(id, minute, outcome, r.options.Capacity/shards+1) {
		s.dropped++
	}
	s.mu.Unlock()
}

func (r *Recorder) shard(id apikey.KeyID) *shard { return &r.shards[uint64(id)%shards] }

// openDelta adds a delta to what is not folded.
func (r *Recorder) openDelta(d *Delta) {
	periods := r.open[d.Key]
	// The latest minute is the likeliest.
	for i := len(periods) - 1; i >= 0; i-- {
		if periods[i].Start == d.Minute {
			periods[i].Counts.Add(&d.Counts)
			return
		}
	}
	r.open[d.Key] = append(periods, Period{Start: d.Minute, Counts: d.Counts})
	r.waiting++
}

// Stats say how a [Recorder] is doing.
type Stats struct {
	Waiting  int    // pairs of key and minute that are not written
	Unfolded int    // pairs that are written but not in their key's history
	Dropped  uint64 // calls that were not counted for want of room
	Failures uint64 // writes that failed
}

// Stats returns the present figures.
func (r *Recorder) Stats() Stats {
	stats := Stats{Failures: r.failures.Load()}
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		stats.Waiting += len(s.table.deltas)
		stats.Dropped += s.dropped
		s.mu.Unlock()
	}
	r.mu.Lock()
	stats.Unfolded = r.waiting
	if r.folding != nil {
		stats.Unfolded += len(r.folding.Deltas)
	}
	r.mu.Unlock()
	return stats
}
