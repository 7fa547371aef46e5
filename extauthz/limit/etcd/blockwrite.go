package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tokenkithq/authz/extauthz/block"
)

const (
	// blockTimeout bounds each request.
	blockTimeout = time.Second
	// eventsRenew is for how long events get the same etcd lease, and
	// eventsSpare how long it lasts beyond the windows of all of them.
	eventsRenew = time.Minute
	eventsSpare = 30 * time.Second
)

// writer writes what waits, as often as it may, until ctx is done.
func (b *Blocks) writer(ctx context.Context, presence clientv3.LeaseID) {
	var turn time.Time // when the next write may be made, if none could be made earlier
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		}
		now := time.Now()
		turn = later(turn, now.Add(-blockBurst*b.interval))
		if wait := turn.Sub(now); wait > 0 {
			pause := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
		}
		if b.writeWaiting(ctx, presence) {
			turn = turn.Add(b.interval)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// writeWaiting writes what waits, all in one request, and reports whether there
// was anything.
func (b *Blocks) writeWaiting(ctx context.Context, presence clientv3.LeaseID) bool {
	b.mu.Lock()
	events, known := b.waiting, b.known
	announce := b.asked && (!b.told || b.announced != known)
	b.waiting = nil
	b.mu.Unlock()
	if len(events) == 0 && !announce {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, blockTimeout)
	defer cancel()
	var further []clientv3.Op
	if announce {
		further = append(further, clientv3.OpPut(b.prefix()+"-replicas/"+b.replica, strconv.FormatUint(known, 10), clientv3.WithLease(presence)))
	}
	err := b.write(ctx, events, further)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		if err != nil {
			e.settle(nil, false, err)
		}
	}
	if err == nil && announce {
		b.told, b.announced = true, known
	}
	return true
}

// write writes events, which are answered when they come back among all
// others.
func (b *Blocks) write(ctx context.Context, events []*ownEvent, ops []clientv3.Op) error {
	now, _, err := b.engine.clock.fresh(ctx)
	if err != nil {
		return err
	}
	record, err := b.eventLease(ctx, events)
	if err != nil {
		return err
	}
	keys := make([]string, len(events))
	b.mu.Lock()
	for i, e := range events {
		e.time = now
		b.events++
		keys[i] = b.prefix() + "-events/" + b.replica + "." + strconv.FormatUint(b.events, 36)
		b.written[keys[i]] = e
	}
	b.mu.Unlock()
	for i, e := range events {
		ops = append(ops, clientv3.OpPut(keys[i], string(e.encode()), clientv3.WithLease(record)))
	}
	if _, err = b.engine.client.Txn(ctx).Then(ops...).Commit(); err == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys { // it may come all the same, and counts then
		delete(b.written, key)
	}
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		b.renew = time.Time{}
	}
	return fmt.Errorf("writing: %w", err)
}

// settle answers whoever waits for an event. [Blocks].mu must be held.
func (e *ownEvent) settle(answers []block.Remote, wasBlocked bool, err error) {
	if e.settled {
		return
	}
	e.settled, e.answers, e.wasBlocked, e.err = true, answers, wasBlocked, err
	close(e.done)
}

// eventLease returns the etcd lease with which events vanish.
func (b *Blocks) eventLease(ctx context.Context, events []*ownEvent) (clientv3.LeaseID, error) {
	window := block.DefaultWindow
	for _, e := range events {
		for i := range e.failures {
			window = max(window, e.failures[i].Window)
		}
	}
	b.mu.Lock()
	record, lasts, renew := b.record, b.lasts, b.renew
	b.mu.Unlock()
	if time.Now().Before(renew) && window <= lasts {
		return record, nil
	}
	granted, err := b.engine.client.Grant(ctx, int64((window+eventsRenew+eventsSpare)/time.Second))
	if err != nil {
		return 0, fmt.Errorf("granting a lease: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.record, b.lasts, b.renew = granted.ID, window, time.Now().Add(eventsRenew)
	return granted.ID, nil
}
