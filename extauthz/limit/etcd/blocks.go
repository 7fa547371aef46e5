package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
)

const (
	// DefaultBlockWrites is how many writes a second blocks cost at most,
	// unless [BlockOptions] say otherwise.
	DefaultBlockWrites = 10
	// blockBurst is how many may follow each other at once.
	blockBurst = 20
)

// BlockOptions say how [Blocks] work.
type BlockOptions struct {
	// Writes is how many writes a second this replica makes at most while
	// failures come. Zero: [DefaultBlockWrites].
	Writes int
}

// Blocks keeps shared blocks in etcd. Every replica writes what failed as
// events, many failures in one, and reads those of all: etcd has one order of
// them, from which each replica works out by itself what is counted and what is
// blocked. So nothing is written twice because two wrote at the same time, and
// who guesses keys makes a replica write a few times a second at most. Events
// vanish after their window.
//
// It follows etcd while [Blocks.Listen] runs, as [shared.Table.Run] has it, and
// needs no closing. Until then calls wait.
type Blocks struct {
	engine   *Engine
	replica  string
	interval time.Duration // between writes

	mu        sync.Mutex // guards the rest
	state     *blockState
	following chan struct{} // closed while there is a state
	events    uint64        // written by this replica
	waiting   []*ownEvent   // to be written
	written   map[string]*ownEvent
	asked     bool   // for changes
	known     uint64 // the change up to which the replica knows all
	told      bool   // that it is there
	announced uint64 // what it told of what it knows
	wake      chan struct{}

	record clientv3.LeaseID // of events written now
	lasts  time.Duration    // for windows up to this
	renew  time.Time        // when they get another
}

var _ shared.Backend = (*Blocks)(nil)

// ownEvent is an event of this replica.
type ownEvent struct {
	blockEvent
	done       chan struct{} // closed once the rest is set
	settled    bool          // guarded by Blocks.mu
	answers    []block.Remote
	wasBlocked bool
	err        error
}

// Blocks returns a backend of shared blocks for one replica.
func (e *Engine) Blocks(o BlockOptions) *Blocks {
	writes := o.Writes
	if writes <= 0 {
		writes = DefaultBlockWrites
	}
	return &Blocks{
		engine: e, replica: strconv.FormatUint(rand.Uint64(), 36), interval: time.Second / time.Duration(writes), //nolint:gosec // a name, no secret
		following: make(chan struct{}), written: map[string]*ownEvent{}, wake: make(chan struct{}, 1),
	}
}

func (b *Blocks) prefix() string { return b.engine.prefix + "block" }

// Failed implements [shared.Backend].
func (b *Blocks) Failed(ctx context.Context, failures []shared.Failure, answers []block.Remote) error {
	e := &ownEvent{blockEvent: blockEvent{failures: failures}, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, e)
	b.mu.Unlock()
	b.ring()
	if err := b.await(ctx, e); err != nil {
		return fmt.Errorf("counting failures in etcd: %w", err)
	}
	copy(answers, e.answers)
	return nil
}

// Unblock implements [shared.Backend].
func (b *Blocks) Unblock(ctx context.Context, prefix netip.Prefix) (bool, error) {
	e := &ownEvent{blockEvent: blockEvent{unblocked: prefix}, done: make(chan struct{})}
	_, err := b.present(ctx)
	if err == nil {
		err = b.write(ctx, []*ownEvent{e}, nil) // at once: nobody guesses by it
	}
	if err == nil {
		err = b.await(ctx, e)
	}
	if err != nil {
		return false, fmt.Errorf("unblocking in etcd: %w", err)
	}
	return e.wasBlocked, nil
}

// await waits until an event came back in its place among all others.
func (b *Blocks) await(ctx context.Context, e *ownEvent) error {
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.waiting {
		if other == e {
			b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
			break
		}
	}
	for key, other := range b.written {
		if other == e {
			delete(b.written, key)
		}
	}
	return ctx.Err()
}

// ring has the writer look what there is to write.
func (b *Blocks) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

var errNotFollowing = errors.New("events were not read in time")

// present waits until events are followed, and returns the shared clock's time.
func (b *Blocks) present(ctx context.Context) (int64, error) {
	b.mu.Lock()
	following := b.following
	b.mu.Unlock()
	select {
	case <-following:
	case <-ctx.Done():
		return 0, errors.Join(errNotFollowing, ctx.Err())
	}
	now, _, err := b.engine.clock.fresh(ctx)
	return now, err
}

// Changes implements [shared.Backend].
func (b *Blocks) Changes(ctx context.Context, _, after uint64) (shared.Changes, error) {
	now, err := b.present(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && b.state == nil {
		err = errNotFollowing
	}
	if err != nil {
		return shared.Changes{}, fmt.Errorf("reading changes of blocks from etcd: %w", err)
	}
	if !b.told || b.announced != after {
		b.ring()
	}
	b.asked, b.known = true, after
	return b.state.after(after, now), nil
}

// Heard implements [shared.Backend]. It asks nobody: what the others say comes
// with the events.
func (b *Blocks) Heard(context.Context) (all, last uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == nil {
		return 0, 0, fmt.Errorf("asking who knows of blocks: %w", errNotFollowing)
	}
	return b.state.least(), b.state.last, nil
}
