package shared

import (
	"context"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
)

// Backend counts the failures of all replicas. Implementations must
//
//   - open a window at the first failure of an address, block it at the
//     failure that makes them [Failure].Threshold, and forget both when the
//     window closes, all by a clock that all replicas share;
//   - number the changes that replicas must hear of, blocks and unblocks, in
//     ascending order, and keep each until its window has closed;
//   - answer within the time that ctx leaves.
//
// They are safe for concurrent use.
type Backend interface {
	// Failed counts failures, in order, and notes in answers what is then
	// known of each address.
	Failed(ctx context.Context, failures []Failure, answers []block.Remote) error
	// Unblock forgets an address and reports whether it was blocked.
	Unblock(ctx context.Context, prefix netip.Prefix) (bool, error)
	// Changes notes that a replica knows of all changes up to a number, and
	// returns those after it, some of them where there are many.
	Changes(ctx context.Context, replica, after uint64) (Changes, error)
	// Heard returns the number up to which all replicas know of changes, and
	// that of the last change. A replica that has not asked for changes for
	// [ReplicaLife] does not count.
	Heard(ctx context.Context) (all, last uint64, err error)
	// Listen calls changed whenever there may be changes, until ctx is done or
	// the connection ends.
	Listen(ctx context.Context, changed func()) error
}

// ReplicaLife is for how long a replica counts that does not ask for changes.
const ReplicaLife = 3 * time.Second

// Failure is one failure of an address.
type Failure struct {
	Prefix    netip.Prefix // an IPv4 address or an IPv6 /64
	Reason    apikey.Reason
	Threshold uint32
	Window    time.Duration
}

// Changes are what replicas must hear of.
type Changes struct {
	// Blocked are addresses that were blocked and still are.
	Blocked []block.Remote
	// Unblocked are addresses that were forgotten.
	Unblocked []netip.Prefix
	// Number is that of the last change told.
	Number uint64
	// Last is that of the last there is. Less than a replica has heard of
	// means that the backend has forgotten some.
	Last uint64
}
