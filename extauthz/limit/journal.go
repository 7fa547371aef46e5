package limit

import (
	"context"
	"slices"

	"github.com/tokenkithq/authz/apikey"
)

// Journal keeps what was spent across restarts. A journal belongs to one
// process at a time. Implementations must
//
//   - make a batch durable, whole or not at all, before Save returns nil, and
//     keep batches in the order of their calls, those that failed included: a
//     batch whose Save returned an error may be kept later, but never after
//     one that was passed later;
//   - let Save wait for as long as ctx allows, and return an error that says
//     why once it is done;
//   - keep nothing of a batch that they were passed, which is reused;
//   - return from State and Records all that the last kept batches add up to,
//     and an error rather than less than that.
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
	// Running says that a process has started and not stopped cleanly.
	Running bool
	Clock   Clock
	// Unclean lists the unclean stops for which keys may still have to pay,
	// oldest first.
	Unclean []UncleanStop
}

// UncleanStop is a start that found [State.Running] set.
type UncleanStop struct {
	// Number counts unclean stops from 1 on.
	Number uint32
	// Stops is how many unclean stops, up to and including Number, this one
	// stands for: 1, or more where there were too many to list.
	Stops uint32
	// At is the limiter's time of the start, in milliseconds.
	At int64
	// Wall is the latest time that the wall clock had shown by then, in
	// milliseconds since 1970.
	Wall int64
}

// Record is what a journal keeps of one key.
type Record struct {
	Key apikey.KeyID
	// Settled is the number of the last unclean stop that Due includes.
	Settled uint32
	// Limit is the limit with which the last token was spent.
	Limit uint32
	// Due is what is out, soonest first.
	Due []Due
}

// Due is a number of tokens that return at the same time.
type Due struct {
	At     int64 // the limiter's time, in milliseconds
	Tokens uint32
}

// Batch is a change to a journal.
type Batch struct {
	State  State
	Delete []apikey.KeyID
	Put    []Record
}

// maxUnclean bounds [State.Unclean].
const maxUnclean = 64

// paid reports whether nobody has to pay for the stop any more: all that it can
// have forgotten is more than 60 minutes old.
func (u UncleanStop) paid(at int64) bool { return at > u.At+hour }

// withStart returns the unclean stops that still matter at a start, with the
// start itself where it found one.
func withStart(state State, at, wall int64) []UncleanStop {
	list := slices.Clone(state.Unclean)
	if state.Running {
		next := UncleanStop{Number: 1, Stops: 1, At: at, Wall: wall}
		if n := len(list); n > 0 {
			next.Number = list[n-1].Number + 1
		}
		list = append(list, next)
	}
	// The last one stays for its number.
	for len(list) > 1 && list[0].paid(at) {
		list = list[1:]
	}
	for len(list) > maxUnclean {
		// A later time and more stops make keys pay longer, never less.
		list[1].Stops += list[0].Stops
		list = list[1:]
	}
	return list
}
