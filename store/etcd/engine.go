package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// engine holds what etcd keeps.
type engine struct {
	client  *clientv3.Client
	options Options
	prefix  string
	name    string // of this replica
	began   time.Time

	// published is what is read.
	published atomic.Pointer[state]
	copying   sync.Mutex // held while a tree of a published state is copied

	mu        sync.Mutex
	settled   *state        // what was published, and told to all followers
	changed   chan struct{} // closed when settled changes
	followers []func(store.KeyChange)
	pending   map[token]int64 // attempts at changes, and the revisions at which they were seen
	gaps      int             // how often revisions were passed over
	late      map[string]int64
	closed    bool

	turn  chan struct{} // holds the right to make a change
	count atomic.Uint64 // of attempts
	by    token         // the first half of all tokens

	registration
	stats counters

	inside  sync.WaitGroup // changes under way
	leaving context.Context
	leave   context.CancelFunc // ends waiting for other replicas
	stopped context.Context
	stop    context.CancelFunc
	work    sync.WaitGroup
	// unknown says that a change may still be made, though it was answered.
	unknown atomic.Bool
}

func newEngine(client *clientv3.Client, o Options) *engine {
	e := &engine{
		client: client, options: o, prefix: o.Prefix, began: time.Now(),
		changed: make(chan struct{}), pending: map[token]int64{}, late: map[string]int64{}, turn: make(chan struct{}, 1),
	}
	e.name, e.by = newName()
	e.registration.init()
	e.stopped, e.stop = context.WithCancel(context.Background())
	e.leaving, e.leave = context.WithCancel(e.stopped)
	e.settled = newState()
	e.published.Store(e.settled)
	return e
}

// View implements [records.Engine].
func (e *engine) View(ctx context.Context, fn func(records.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.stopped.Err() != nil {
		return store.ErrClosed
	}
	if err := e.fresh(); err != nil {
		return err
	}
	s := e.published.Load()
	if s.broken != nil {
		return s.broken
	}
	return fn(view{s})
}

// Update implements [records.Engine].
func (e *engine) Update(ctx context.Context, fn func(records.Tx) error) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.inside.Done()
	limited, cancel := context.WithTimeoutCause(ctx, e.options.RequestTimeout, fmt.Errorf("no confirmation within %v", e.options.RequestTimeout))
	defer cancel()
	made, replaces, err := e.update(limited, fn)
	if err == nil && made > 0 {
		err = e.awaitReplicas(ctx, made, replaces)
	}
	return err
}

func (e *engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return store.ErrClosed
	}
	e.inside.Add(1)
	return nil
}

// update makes a change and returns its revision, which is zero where other
// replicas need not know of it, and whether it replaced something.
func (e *engine) update(ctx context.Context, fn func(records.Tx) error) (made int64, replaces bool, err error) {
	if ctx.Err() != nil {
		return 0, false, unavailable(ctx, "the change was not begun")
	}
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return 0, false, unavailable(ctx, "waiting for other changes")
	}
	for {
		base := e.present()
		if base.broken != nil {
			return 0, false, base.broken
		}
		u := newUpdate(base.edit(&e.copying))
		err := fn(u)
		if err != nil || u.count == 0 {
			// It was decided on what this replica knows, which may not be all.
			current, ask := e.isCurrent(ctx, base)
			if ask != nil {
				return 0, false, ask
			}
			if !current {
				continue
			}
			return 0, false, err
		}
		made, err := e.commit(ctx, base, u)
		if err == nil && made > 0 && len(u.writes) == 0 {
			return 0, false, nil // an event alone, for which nobody waits
		}
		if err != nil || made > 0 {
			return made, u.replaces, err
		}
		e.stats.conflicts.Add(1)
	}
}

// present returns the settled state.
func (e *engine) present() *state {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settled
}

// await waits until the settled state is as it should be.
func (e *engine) await(ctx context.Context, should func(*state) bool) error {
	for {
		e.mu.Lock()
		s, changed := e.settled, e.changed
		e.mu.Unlock()
		if s.broken != nil {
			return s.broken
		}
		if should(s) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return unavailable(ctx, "waiting for what etcd has")
		}
	}
}

// headNow asks etcd for the revision of the head: nothing older is answered.
func (e *engine) headNow(ctx context.Context) (int64, error) {
	got, err := e.client.Get(ctx, e.prefix+headKey, clientv3.WithKeysOnly())
	if err != nil {
		return 0, failure(err)
	}
	if len(got.Kvs) == 0 {
		return 0, nil
	}
	return got.Kvs[0].ModRevision, nil
}

// comeAlong waits until this replica has all changes that were made when it was
// called.
func (e *engine) comeAlong(ctx context.Context) (int64, error) {
	at, err := e.headNow(ctx)
	if err != nil {
		return 0, err
	}
	return at, e.await(ctx, func(s *state) bool { return s.headAt >= at })
}

// isCurrent reports whether no change was made since base, and comes along if
// one was.
func (e *engine) isCurrent(ctx context.Context, base *state) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, e.options.RequestTimeout/3)
		at, err := e.comeAlong(attempt)
		end()
		if err == nil {
			return at == base.headAt, nil
		}
		if ctx.Err() != nil {
			return false, unavailable(ctx, "asking etcd")
		}
		if !errors.Is(err, store.ErrUnavailable) {
			return false, err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return false, unavailable(ctx, "asking etcd")
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements [records.Engine].
func (e *engine) Close() error {
	e.mu.Lock()
	again := e.closed
	e.closed = true
	e.mu.Unlock()
	if again {
		return nil
	}
	e.leave()
	e.inside.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if e.unknown.Load() {
		e.fence(ctx)
	}
	e.stop()
	e.unregister(ctx)
	err := e.client.Close()
	e.work.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return failure(err)
	}
	return nil
}

// closeTimeout bounds what is done at the end.
const closeTimeout = 3 * time.Second

// fence makes a change of nothing, so that none that was answered with
// ErrUnavailable can still be made.
func (e *engine) fence(ctx context.Context) {
	for ctx.Err() == nil {
		base := e.present()
		u := newUpdate(base.edit(&e.copying))
		if made, err := e.commit(ctx, base, u); err != nil || made > 0 {
			return
		}
	}
}
