package usage

import (
	"context"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Delta is a number of calls of one key within one minute.
type Delta struct {
	Key    apikey.KeyID
	Minute int64 // since the beginning of 1970, in UTC
	Counts Counts
}

// Entry is what was recorded between two writes.
type Entry struct {
	Number uint64
	Deltas []Delta // in any order, each key and minute once
}

// Fold moves deltas from the log into the histories of their keys.
type Fold struct {
	Number uint64
	Now    time.Time
	Deltas []Delta // all of a key together, keys ascending
}

// Period is what one key did in one period.
type Period struct {
	Start  int64 // minutes since the beginning of 1970, in UTC
	Counts Counts
}

// Query asks for the periods of some keys that start in [From, To), both in
// minutes since the beginning of 1970, in UTC.
type Query struct {
	Keys       []apikey.KeyID // ascending
	Resolution Resolution
	From, To   int64
}

// Journal keeps counts: a log of entries, and the history of each key.
//
// Entries and changes of histories have numbers, each greater than all before.
// Implementations must keep with each history the number of its last change:
// an entry with a smaller one counts for nothing there, since it is part of
// the history, or was to be forgotten.
//
// Every method but Read and Replay returns nil only once its change is
// durable. After an error the change may still be made, before the next one is
// begun; Append and Fold are then called again with the same number and the
// same deltas, which are left unchanged until they succeed. They must count
// once.
//
// No two methods but Read, Expire and one other are called at the same time.
type Journal interface {
	// Append adds an entry to the log, all of it or nothing.
	Append(ctx context.Context, entry *Entry) error
	// Replay passes fn every delta of the log that is not in its key's
	// history, and returns the last number that was used.
	Replay(ctx context.Context, fn func(delta *Delta)) (last uint64, err error)
	// Fold adds deltas to histories, all of them or none. A history whose last
	// change has the fold's number, or a greater one, is left as it is.
	Fold(ctx context.Context, fold *Fold) error
	// Trim removes the entries up to a number from the log.
	Trim(ctx context.Context, last uint64) error
	// Forget removes the histories of keys.
	Forget(ctx context.Context, number uint64, keys []apikey.KeyID) error
	// Read passes fn, for each key of the query, the number of the last change
	// of its history, which may be 0 where there is none, and each period that
	// the history says something of, in any order; a period that is passed
	// more than once is the sum. All that fn sees is of one moment.
	Read(ctx context.Context, query *Query, fn func(key apikey.KeyID, last uint64, periods []Period)) error
	// Expire removes what is too old to be kept.
	Expire(ctx context.Context, now time.Time) error
}
