package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// pulse notes when calls are decided.
type pulse struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
}

// beat says that a call was decided just now.
func (p *pulse) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.last.IsZero() {
		p.longest = max(p.longest, now.Sub(p.last))
	}
	p.last = now
}

// failoverRun calls with one key while the master of the limits is replaced.
type failoverRun struct {
	*cluster
	front  string
	client *http.Client
	key    string
	most   int64
	from   *atomic.Uint32
	pulse  pulse

	allowed, undecided atomic.Int64
}

// call makes one call, at a replica or through Envoy.
func (f *failoverRun) call(ctx context.Context, at *replica) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var ok bool
	var err error
	if at != nil {
		ok, err = at.check(ctx, f.key, f.from.Add(1))
	} else {
		var status int
		status, err = get(ctx, f.client, f.front, f.key)
		ok = status == 200
	}
	switch {
	case err != nil:
		f.undecided.Add(1)
		return
	case ok:
		f.allowed.Add(1)
	}
	f.pulse.beat()
}

// use calls, but not fast, until ctx is done.
func (f *failoverRun) use(ctx context.Context, at *replica) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rand.IntN(16)) * time.Millisecond)
		f.call(context.WithoutCancel(ctx), at) // so that each is counted
	}
}

// useUp calls at all replicas at once, far more often than the limit allows.
func (f *failoverRun) useUp(t *testing.T) {
	var left atomic.Int64
	left.Store(2 * f.most)
	var all sync.WaitGroup
	for _, r := range f.replicas {
		for range 20 {
			all.Go(func() {
				for left.Add(-1) >= 0 {
					f.call(t.Context(), r)
				}
			})
		}
	}
	all.Wait()
}

// inStep reports whether one of the two servers that Sentinels watch over copies
// the other, and says which: on a busy machine they replace one that is alive.
func (c *cluster) inStep() bool {
	if !c.redis.IsMaster() {
		c.redis, c.copies = c.copies, c.redis
	}
	return c.redis.IsMaster() && c.sentinels.Follow(c.redis) && c.copies.Copies() && !c.copies.IsMaster()
}

// useSentinels kills the Redis that counts the limits of three replicas behind a
// real Envoy, again and again. Sentinels let its replica take its place, and it
// comes back as a replica of that. No key may make more calls than its limit,
// and calls go on. It returns figures.
func useSentinels(t *testing.T, rounds int, _ bool) string {
	began := time.Now()
	c := startCluster(t, 1, 3, sentinels)
	c.addUser(t)
	o := envoy.Options{Upstream: echo.Start(t).Address(), AuthzTimeout: time.Second}
	for _, r := range c.replicas {
		o.Authz = append(o.Authz, r.grpc)
	}
	front := envoytest.Start(t, o)
	waitHealthy(t, front.AdminURL, len(o.Authz))
	t.Logf("ready after %v", time.Since(began))
	client := clientFrom("127.0.0.1", 4)
	defer client.CloseIdleConnections()
	var from atomic.Uint32
	var over, allowed, undecided int64
	var failover, silence time.Duration
	for round := range rounds {
		const most = 3000
		key, err := c.replicas[0].newKey(t.Context(), most)
		if err != nil {
			t.Fatal(err)
		}
		f := &failoverRun{cluster: c, front: front.URL, client: client, key: key.Key, most: most, from: &from}
		ctx, stop := context.WithCancel(t.Context())
		var users sync.WaitGroup
		for _, at := range append(c.replicas, nil) {
			users.Go(func() { f.use(ctx, at) })
		}
		eventually(t, "calls pass", func() bool { return f.allowed.Load() > most/20 })
		eventually(t, "the replica copies the master", c.inStep)
		old, next := c.redis, c.copies
		old.Kill(t)
		killed := time.Now()
		eventually(t, "the replica takes over", func() bool { return next.IsMaster() && c.sentinels.Follow(next) })
		took := time.Since(killed)
		if round%2 == 0 {
			old.Start(t, "--replicaof", "127.0.0.1 "+next.Port())
		} else { // it takes itself for the master until a Sentinel tells it
			old.Start(t, "--replicaof", "no one")
		}
		eventually(t, "the former master copies the new one", c.inStep)
		before := f.allowed.Load()
		eventually(t, "calls go on", func() bool { return f.allowed.Load() > before+50 })
		stop()
		users.Wait()
		failover, silence = max(failover, took), max(silence, f.pulse.longest)
		f.useUp(t)
		// What a replica had leased and lost, and what the key pays for the failover, do not pass.
		if f.allowed.Load() > most || f.allowed.Load() < most*9/10 {
			t.Errorf("round %d: %d calls were allowed, expected %d to %d", round, f.allowed.Load(), most*9/10, most)
		}
		over += max(0, f.allowed.Load()-most)
		allowed += f.allowed.Load()
		undecided += f.undecided.Load()
	}
	return fmt.Sprintf("over_limit=%d failovers=%d allowed=%d undecided=%d max_failover_ms=%d max_without_decision_ms=%d",
		over, rounds, allowed, undecided, failover.Milliseconds(), silence.Milliseconds())
}
