package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// apart is how long ago the clock's record may have been seen.
	apart = 3 * time.Second
	// every is how often it is looked at.
	every = time.Second
	// behind is by how many milliseconds it may be late before it is set.
	behind = 500
)

// clock is the time that all replicas share, in milliseconds.
type clock struct {
	client *clientv3.Client
	key    string

	looking sync.Mutex // held by whoever needs the record at once

	mu   sync.Mutex // guards the rest
	time int64      // what the time was
	at   time.Time  // when that was, by the monotonic clock
	seen time.Time  // when the record was last asked for, and seen
	// cluster is the number of the cluster that had it.
	cluster uint64
}

var errClock = errors.New("the shared clock was not seen in time")

// now returns the time and the number of the cluster that has it, or an error
// where the record was not seen for too long.
func (c *clock) now() (int64, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.seen.IsZero() || now.Sub(c.seen) > apart {
		return 0, 0, errClock
	}
	return c.time + now.Sub(c.at).Milliseconds(), c.cluster, nil
}

// fresh is now, but looks at the record first where that is needed.
func (c *clock) fresh(ctx context.Context) (int64, uint64, error) {
	if time, cluster, err := c.now(); err == nil {
		return time, cluster, nil
	}
	c.looking.Lock()
	defer c.looking.Unlock()
	if time, cluster, err := c.now(); err == nil { // another exchange looked
		return time, cluster, nil
	}
	if err := c.look(ctx); err != nil {
		return 0, 0, err
	}
	return c.now()
}

// look reads the record and, where it is late, sets it.
func (c *clock) look(ctx context.Context) error {
	asked := time.Now()
	response, err := c.client.Get(ctx, c.key)
	if err != nil {
		return fmt.Errorf("reading the shared clock: %w", err)
	}
	answered := time.Now()
	var stored, revision int64
	if len(response.Kvs) > 0 {
		revision = response.Kvs[0].ModRevision
		if stored, err = strconv.ParseInt(string(response.Kvs[0].Value), 10, 64); err != nil || stored < 0 {
			return fmt.Errorf("reading the shared clock: expected milliseconds, got %q", response.Kvs[0].Value)
		}
	}
	c.mu.Lock()
	mine := stored
	switch {
	case revision == 0:
		mine = time.Now().UnixMilli() // the first of all replicas begins somewhere
	case !c.seen.IsZero() && answered.Sub(c.seen) <= apart:
		mine = max(stored, c.time+answered.Sub(c.at).Milliseconds())
	}
	c.mu.Unlock()
	if revision == 0 || mine > stored+behind {
		written, err := c.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(c.key), "=", revision)).
			Then(clientv3.OpPut(c.key, strconv.FormatInt(mine, 10))).Commit()
		if err != nil {
			return fmt.Errorf("setting the shared clock: %w", err)
		}
		if !written.Succeeded && revision == 0 {
			return errClock // somebody else began; the next look sees it
		}
	}
	c.mu.Lock()
	c.time, c.at, c.seen, c.cluster = mine, answered, asked, response.Header.ClusterId
	c.mu.Unlock()
	return nil
}

// run looks at the record again and again.
func (c *clock) run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, every)
		_ = c.look(bounded) // exchanges fail where it was not seen for too long
		cancel()
	}
}
