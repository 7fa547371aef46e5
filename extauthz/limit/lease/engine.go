package lease

import (
	"context"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Engine keeps what was taken of every key's limit, for all replicas. It must
// behave as one [Account] for each key, to which requests come one by one in
// some order. Implementations must
//
//   - return a grant only once no failure that they promise to survive can make
//     the engine forget it: a replica uses it at once;
//   - return an error, for the whole exchange or in [Grant].Err, where they do
//     not know that, whether or not the request was carried out;
//   - carry a request out at most once, and not after ctx is done and its
//     [Request].Span has passed;
//   - take the time from the engine, never from the replica;
//   - answer within the time that ctx leaves.
//
// They are safe for concurrent use and keep nothing of what they were passed.
// Package enginetest holds the tests that each of them passes.
type Engine interface {
	// Exchange carries out requests and notes what came of each in the grant
	// of the same index. An error is one of all of them. No two requests of a
	// call are of the same key.
	Exchange(ctx context.Context, requests []Request, grants []Grant) error
	// Replicas notes that a replica is there and returns how many are: those
	// that were noted in the last [ReplicaLife], this one included.
	Replicas(ctx context.Context, replica uint64) (int, error)
}

// ReplicaLife is for how long a replica that is not heard of still counts.
const ReplicaLife = 30 * time.Second

// MaxSpan is the longest that a lease may be.
const MaxSpan = time.Minute

// Request asks to take back tokens of a key's former leases and to lease it
// others, in one step.
type Request struct {
	Key apikey.KeyID
	// Limit is the key's hourly limit, at least 1.
	Limit uint32
	// Lease names the lease that is asked for. It is not used twice.
	Lease ID
	// Tokens is how many are wanted; fewer are leased where fewer are left.
	// Zero: none, the engine only tells how the limit stands.
	Tokens uint32
	// Span is how long the lease is, up to [MaxSpan].
	Span time.Duration
	// Latest is a time of the engine's clock, in milliseconds, that cannot
	// have passed yet, by what the replica has seen of that clock. Zero: it
	// has seen nothing. It keeps tokens from returning early where an engine's
	// clock jumps ahead, as at a failover to a machine whose clock is wrong.
	Latest int64
	// Farthest is such a time even if the replica's clock runs slower than the
	// engine's by a twentieth. Up to it tokens are charged by the engine's own
	// clock: charged by Latest they would return too early to a replica whose
	// clock is faster. Zero: without a bound.
	Farthest int64
	// Seen is [Grant].Total as the replica last saw it, in the last hour. An
	// account that knows of less has forgotten something, and is charged.
	Seen uint64
	// Back are tokens that will not be used.
	Back []Back
}

// ID names a lease.
type ID struct {
	Replica uint64 // random, of one start of one replica
	Number  uint64 // counted by the replica
}

// Back gives back what was not used of a lease. Where the lease holds fewer
// tokens, as many are taken back as it does; a second time, none are.
type Back struct {
	Lease  ID
	Unused uint32
}

// Grant is the answer to one [Request].
type Grant struct {
	// Err says that nothing is known of this request; the rest is zero then.
	Err error
	// Tokens is how many were leased.
	Tokens uint32
	// Left is how many tokens of the limit are left to be leased.
	Left uint32
	// Reset is how long until more tokens return. Zero: none are out.
	Reset time.Duration
	// Total counts the tokens that were ever leased of this account.
	Total uint64
	// Time is the engine's own clock when it decided, in milliseconds.
	Time int64
	// Charged is how many tokens the key paid because the engine has, or may
	// have, forgotten grants.
	Charged uint32
}
