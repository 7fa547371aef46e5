package block

import (
	"context"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Journal keeps blocks and windows across restarts. A journal belongs to one
// process at a time. Implementations must
//
//   - make a batch durable, whole or not at all, before Save returns nil, and
//     keep batches in the order of their calls, those that failed included: a
//     batch whose Save returned an error may be kept later, but never after
//     one that was passed later;
//   - let Save wait for as long as ctx allows, and return an error that says
//     why once it is done;
//   - keep nothing of a batch that they were passed, which is reused.
//
// State and Records are called once each, in this order, before any Save, and
// Save never by two goroutines at once.
type Journal interface {
	// State returns the state last saved; the zero State where nothing ever
	// was.
	State(ctx context.Context) (State, error)
	// Records passes each record to fn, which must not keep it. It stops at
	// the first error of fn and returns it.
	Records(ctx context.Context, fn func(*Record) error) error
	// Save removes the records of batch.Delete, then adds or replaces those
	// of batch.Put, and replaces the state.
	Save(ctx context.Context, batch *Batch) error
}

// State is what a journal keeps once.
type State struct {
	Clock Clock
}

// Record is what a journal keeps of one address. Times are the table's, in
// milliseconds.
type Record struct {
	Prefix   netip.Prefix // an IPv4 address or an IPv6 /64
	Opened   int64        // when the window opened
	Blocked  int64        // when the address was blocked; zero: it is not
	Failures uint32
	Reason   apikey.Reason // of the last failure
}

// Batch is a change to a journal.
type Batch struct {
	State  State
	Delete []netip.Prefix
	Put    []Record
}

// Clock ties the table's own time, which never goes back and never jumps while
// the process runs, to the wall clock. Both are in milliseconds since 1970 by
// the clock in question.
type Clock struct {
	Time int64 // the table's time
	Wall int64 // the wall clock's, at the same moment
}

// clock is the table's time inside one process.
type clock struct {
	start time.Time // with a monotonic reading
	base  int64     // the table's time at start
}

// resume starts a clock at a reading, after what a journal last knew. The
// zero Clock begins with the wall clock's time.
func resume(last Clock, now time.Time) clock {
	c := clock{start: now, base: now.UnixMilli()}
	if last != (Clock{}) {
		// Both wall times were cut to whole milliseconds, so that up to one of
		// the difference may not have passed.
		c.base = last.Time + max(0, now.UnixMilli()-last.Wall-1)
	}
	return c
}

// at gives the table's time of a reading. Readings from before the start count
// as the start.
func (c *clock) at(now time.Time) int64 {
	return c.base + max(0, int64(now.Sub(c.start)/time.Millisecond))
}

func (c *clock) reading(now time.Time) Clock {
	return Clock{Time: c.at(now), Wall: now.UnixMilli()}
}
