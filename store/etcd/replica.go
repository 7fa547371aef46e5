package etcd

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// registration is what lets others know that this replica is there.
type registration struct {
	validUntil atomic.Int64 // since the engine began; 0: not
	validWall  atomic.Int64 // the same by the wall clock, since 1970
	lease      atomic.Int64
	granted    time.Duration // only used by who registers
	sent       time.Time     // likewise: when the lease was asked for last

	renew  chan struct{} // asks for a renewal before its time
	behind chan struct{} // asks for a report

	watching sync.Mutex
	rewatch  context.CancelFunc
}

func (r *registration) init() {
	r.renew, r.behind = make(chan struct{}, 1), make(chan struct{}, 1)
}

func (r *registration) askRenewal() { ask(r.renew) }
func (r *registration) askReport()  { ask(r.behind) }

func ask(who chan struct{}) {
	select {
	case who <- struct{}{}:
	default:
	}
}

func (r *registration) setRewatch(cancel context.CancelFunc) {
	r.watching.Lock()
	defer r.watching.Unlock()
	r.rewatch = cancel
}

// watchAgain ends the present watch, so that another begins.
func (r *registration) watchAgain() {
	r.watching.Lock()
	defer r.watching.Unlock()
	if r.rewatch != nil {
		r.rewatch()
	}
}

// errStale is made once: it is returned for each Check.
var errStale = fmt.Errorf("this replica has lost etcd, and may not know of deleted keys: %w", store.ErrUnavailable)

// fresh returns nil while the registration stands for sure.
//
// The monotonic clock goes on while the process is stopped, and the wall clock
// while the machine is; whichever says first that time is up is believed. It is
// enough to look before something is read: what was acknowledged before is there by then, and what
// is acknowledged afterwards is acknowledged while the call is under way.
func (e *engine) fresh() error {
	now := time.Now()
	if int64(now.Sub(e.began)) < e.validUntil.Load() {
		if now.UnixNano() < e.validWall.Load() {
			return nil
		}
		e.askRenewal() // a clock that was only set is good again at once
	}
	if e.stopped.Err() != nil {
		return store.ErrClosed
	}
	return errStale
}

// register makes a lease and a registration of it, and comes along to it: what
// is changed from then on waits for this replica.
func (e *engine) register(ctx context.Context) error {
	e.validUntil.Store(0)
	e.sent = time.Now()
	lease, err := e.client.Grant(ctx, int64(e.options.Staleness/time.Second))
	if err != nil {
		return failure(err)
	}
	e.lease.Store(int64(lease.ID))
	e.granted = min(time.Duration(lease.TTL)*time.Second, e.options.Staleness)
	// Zero is no revision: it says that this replica begins.
	put, err := e.client.Put(ctx, e.prefix+replicaKey+e.name, "0", clientv3.WithLease(lease.ID))
	if err != nil {
		return failure(err)
	}
	return e.await(ctx, func(s *state) bool { return s.revision >= put.Header.Revision })
}

// renewed lets this replica be trusted until the lease may end: less than what
// was granted, since clocks may differ, and a server that is about to lose its
// leadership may have renewed it.
func (e *engine) renewed() {
	until := e.sent.Add(e.granted - e.granted/10)
	e.validWall.Store(until.UnixNano())
	e.validUntil.Store(int64(until.Sub(e.began)))
}

// stayRegistered renews the lease, and registers again when it has ended.
func (e *engine) stayRegistered() {
	every := e.options.Staleness / 6
	timer := time.NewTimer(every)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-timer.C:
		case <-e.renew:
		case <-e.stopped.Done():
			return
		}
		err := e.renewOnce(every)
		if e.stopped.Err() != nil {
			return
		}
		switch {
		case err != nil && !failing:
			e.options.Logger.Warn("this replica could not renew its registration in etcd; it is tried again", "error", err)
		case err == nil && failing:
			e.options.Logger.Info("this replica is registered in etcd again")
		}
		failing = err != nil
		next := every
		if failing {
			next = min(every, time.Second) / 4
		}
		timer.Reset(next)
	}
}

func (e *engine) renewOnce(limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(e.stopped, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	// One that does not come along must not seem to be well.
	if _, err := e.comeAlong(ctx); err != nil {
		e.watchAgain()
		return err
	}
	if _, registered := e.present().replicas[e.name]; registered {
		sent := time.Now()
		answer, err := e.client.KeepAliveOnce(ctx, clientv3.LeaseID(e.lease.Load()))
		if err == nil {
			e.sent, e.granted = sent, min(time.Duration(answer.TTL)*time.Second, e.options.Staleness)
			e.renewed()
			return nil
		}
		if !unregistered(err) {
			return failure(err)
		}
	}
	e.stats.registrations.Add(1)
	if err := e.register(ctx); err != nil {
		return err
	}
	e.renewed()
	return nil
}

// report tells the others how far this replica has come, whenever another has
// changed something.
func (e *engine) report() {
	for {
		select {
		case <-e.behind:
		case <-e.stopped.Done():
			return
		}
		ctx, cancel := context.WithTimeout(e.stopped, e.options.RequestTimeout/3)
		seen := strconv.FormatInt(e.present().revision, 10)
		_, err := e.client.Put(ctx, e.prefix+replicaKey+e.name, seen, clientv3.WithLease(clientv3.LeaseID(e.lease.Load())))
		cancel()
		e.stats.reports.Add(1)
		switch {
		case err == nil:
		case unregistered(err):
			e.askRenewal()
			fallthrough
		default:
			_ = pause(e.stopped, 100*time.Millisecond)
			e.askReport()
		}
	}
}

// addedSeen is how long a change that only adds something waits for replicas.
const addedSeen = time.Second

// awaitReplicas waits until all other replicas have a change, or cannot accept
// anything any more.
func (e *engine) awaitReplicas(ctx context.Context, made int64, replaces bool) error {
	limit := addedSeen
	if replaces {
		// A lease lasts longer where another server begins to lead.
		limit = 2*e.options.Staleness + 5*time.Second
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(e.leaving, cancel)()
	err := e.await(limited, func(s *state) bool { return len(e.missing(s, made, replaces)) == 0 })
	if err == nil || limited.Err() == nil {
		return err
	}
	missing := e.missing(e.present(), made, true)
	e.mu.Lock()
	for _, name := range missing {
		e.late[name] = made
	}
	e.mu.Unlock()
	if ctx.Err() != nil {
		return fmt.Errorf("%w: the change is made, and not known to all replicas yet: %w", store.ErrUnavailable, context.Cause(ctx))
	}
	if !replaces {
		return nil
	}
	if e.leaving.Err() != nil {
		return fmt.Errorf("%w: the change is made, and was not confirmed by replicas %v before this one had to end", store.ErrUnavailable, missing)
	}
	return fmt.Errorf("%w: the change is made, and was not confirmed by replicas %v within %v", store.ErrUnavailable, missing, limit)
}

// missing returns the other replicas that may not have a change. Those that
// have not answered lately count only where all do.
func (e *engine) missing(s *state, made int64, all bool) (names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, seen := range s.replicas {
		if seen >= made || name == e.name {
			continue
		}
		if since, late := e.late[name]; late && !all && seen < since {
			continue
		}
		names = append(names, name)
	}
	for name := range e.late {
		if seen, registered := s.replicas[name]; !registered || seen >= e.late[name] {
			delete(e.late, name)
		}
	}
	return names
}

// unregister ends the registration, so that nobody waits for it.
func (e *engine) unregister(ctx context.Context) {
	e.validUntil.Store(0)
	_, _ = e.client.Revoke(ctx, clientv3.LeaseID(e.lease.Load()))
}
