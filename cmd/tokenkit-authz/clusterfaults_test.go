package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// fault is what befalls a cluster while it is used.
type fault struct {
	name string
	long bool // left out of a short run
	do   func(t *testing.T, c *cluster)
}

// faults leave the cluster as whole as they found it.
func faults() []fault {
	wait := func(d time.Duration) { time.Sleep(d) } // for this long the fault lasts
	return []fault{
		{"the leader of etcd is killed", false, func(t *testing.T, c *cluster) {
			leader := c.etcd.Members[c.etcd.Leader(t)]
			leader.Kill(t)
			wait(2 * time.Second)
			leader.Start(t)
		}},
		{"the leader of etcd hangs", true, func(t *testing.T, c *cluster) {
			leader := c.etcd.Members[c.etcd.Leader(t)]
			leader.Pause(t)
			wait(3 * time.Second)
			leader.Resume(t)
		}},
		{"etcd forgets the past while a replica is cut off", true, func(t *testing.T, c *cluster) {
			c.replicas[1].cut()
			wait(2 * time.Second)
			client := c.etcd.Client(t)
			response, err := client.Get(t.Context(), "any")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Compact(t.Context(), response.Header.Revision); err != nil {
				t.Fatal(err)
			}
			wait(time.Second)
			c.replicas[1].heal()
		}},
		{"a replica is cut off", false, func(t *testing.T, c *cluster) {
			c.replicas[2].cut()
			wait(shortStaleness + time.Second)
			c.replicas[2].heal()
		}},
		{"a replica is stopped and goes on", false, func(t *testing.T, c *cluster) {
			c.replicas[0].signal(t, syscall.SIGSTOP)
			wait(shortStaleness + time.Second)
			c.replicas[0].signal(t, syscall.SIGCONT)
		}},
		{"a replica is killed", false, func(t *testing.T, c *cluster) {
			r := c.replicas[1]
			r.kill(t)
			wait(2 * time.Second)
			r.start(t, r.data)
		}},
		{"Redis is killed", false, func(t *testing.T, c *cluster) {
			c.redis.Kill(t)
			wait(2 * time.Second)
			c.redis.Start(t)
		}},
		{"Redis hangs", true, func(t *testing.T, c *cluster) {
			c.redis.Pause(t)
			wait(3 * time.Second)
			c.redis.Resume(t)
		}},
		{"Redis is slow", false, func(_ *testing.T, c *cluster) {
			for _, r := range c.replicas {
				r.toRedis[0].Delay(200 * time.Millisecond)
			}
			wait(2 * time.Second)
			for _, r := range c.replicas {
				r.toRedis[0].Delay(0)
			}
		}},
		{"all replicas are restarted in turn", true, func(t *testing.T, c *cluster) {
			for _, r := range c.replicas {
				r.stop(t)
				r.start(t, r.data)
				wait(500 * time.Millisecond)
			}
		}},
	}
}

// world is what uses a cluster, and what it knows.
type world struct {
	*cluster
	limited admin.CreatedKey
	most    int64
	from    atomic.Uint32 // addresses

	allowed, denied, undecided atomic.Int64 // calls with the limited key
	probes, stale              atomic.Int64 // with deleted keys
	acknowledged, refused      atomic.Int64 // changes

	mu      sync.Mutex
	live    []admin.CreatedKey // acknowledged and not to be deleted
	deleted []admin.CreatedKey // acknowledged
	notes   []string
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// spend calls with the limited key, at a replica or through Envoy.
func (w *world) spend(ctx context.Context, through string) {
	client := clientFrom("127.0.0.1", 8)
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
		var ok bool
		var err error
		if through != "" {
			var status int
			status, err = get(ctx, client, through, w.limited.Key)
			ok = status == 200
		} else {
			one, cancel := context.WithTimeout(ctx, time.Second)
			ok, err = w.replicas[rand.IntN(len(w.replicas))].check(one, w.limited.Key, w.from.Add(1))
			cancel()
		}
		switch {
		case err != nil:
			w.undecided.Add(1)
		case ok:
			w.allowed.Add(1)
		default:
			w.denied.Add(1)
		}
	}
}

// change makes keys and deletes every other one, at any replica.
func (w *world) change(ctx context.Context) {
	var mine []admin.CreatedKey
	for ctx.Err() == nil {
		r := w.replicas[rand.IntN(len(w.replicas))]
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		if len(mine) < 2 {
			key, err := r.newKey(one, 0)
			if err == nil {
				mine = append(mine, key)
				w.acknowledged.Add(1)
			} else {
				w.refused.Add(1)
				time.Sleep(50 * time.Millisecond)
			}
			cancel()
			continue
		}
		key := mine[0]
		mine = mine[1:]
		if rand.IntN(2) == 0 {
			w.mu.Lock()
			w.live = append(w.live, key)
			w.mu.Unlock()
		} else if _, err := r.operate.DeleteKey(one, key.ID); err == nil {
			w.acknowledged.Add(1)
			w.mu.Lock()
			w.deleted = append(w.deleted, key)
			w.mu.Unlock()
		} else {
			w.refused.Add(1)
			time.Sleep(50 * time.Millisecond)
		}
		cancel()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = append(w.live, mine...)
}

// probe tries keys of which the deletion was acknowledged before.
func (w *world) probe(ctx context.Context) {
	for ctx.Err() == nil {
		time.Sleep(2 * time.Millisecond)
		w.mu.Lock()
		var key admin.CreatedKey
		if n := len(w.deleted); n > 0 {
			key = w.deleted[max(0, n-1-rand.IntN(4))]
		}
		w.mu.Unlock()
		if key.Key == "" {
			continue
		}
		i := rand.IntN(len(w.replicas))
		one, cancel := context.WithTimeout(ctx, 20*time.Second)
		ok, err := w.replicas[i].check(one, key.Key, w.from.Add(1))
		cancel()
		if err == nil {
			w.probes.Add(1)
		}
		if ok {
			w.stale.Add(1)
			w.note("replica %d accepts key %d, whose deletion was acknowledged", i, key.ID)
		}
	}
}

// TestClusterFaults uses clusters while one fault after the other befalls them,
// one with a Redis and one where Sentinels replace it. TOKENKIT_CLUSTER=long is
// for all faults, several times.
func TestClusterFaults(t *testing.T) {
	envoytest.Require(t)
	size := os.Getenv("TOKENKIT_CLUSTER")
	if size == "" {
		t.Skip("set TOKENKIT_CLUSTER=short or long, as make cluster does")
	}
	var figures [2]string // in this order, whichever is done first
	t.Run("at once", func(t *testing.T) {
		for i, run := range []struct {
			name string
			use  func(t *testing.T, rounds int, long bool) string
		}{{"one Redis", useFaults}, {"Sentinels", useSentinels}} {
			t.Run(run.name, func(t *testing.T) {
				t.Parallel()
				rounds := 1
				if size == "long" {
					rounds = 5
				}
				figures[i] = run.use(t, rounds, size == "long")
			})
		}
	})
	for _, line := range figures {
		fmt.Println(line)
	}
}

// useFaults uses three servers of etcd, a Redis, and three replicas behind a
// real Envoy while one fault after the other befalls them. It returns figures.
func useFaults(t *testing.T, rounds int, long bool) string {
	c := startCluster(t, 3, 3, oneRedis)
	c.addUser(t)
	w := &world{cluster: c, most: 2000}
	var err error
	if w.limited, err = c.replicas[0].newKey(t.Context(), w.most); err != nil {
		t.Fatal(err)
	}
	var authz []string
	for _, r := range c.replicas {
		authz = append(authz, r.grpc)
	}
	front := envoytest.Start(t, envoy.Options{Authz: authz, Upstream: echo.Start(t).Address(), AuthzTimeout: time.Second})
	waitHealthy(t, front.AdminURL, len(authz))

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var users sync.WaitGroup
	for range 2 {
		users.Go(func() { w.spend(ctx, "") })
		users.Go(func() { w.spend(ctx, front.URL) })
		users.Go(func() { w.probe(ctx) })
	}
	for range 3 {
		users.Go(func() { w.change(ctx) })
	}
	befell := 0
	for range rounds {
		for _, f := range faults() {
			if f.long && !long {
				continue
			}
			before := w.acknowledged.Load()
			f.do(t, c)
			befell++
			// Everything works again.
			eventually(t, "changes go on after: "+f.name, func() bool { return w.acknowledged.Load() > before+10 })
			for i, r := range c.replicas {
				eventually(t, fmt.Sprintf("replica %d finds keys after: %s", i, f.name), func() bool {
					one, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					_, err := r.check(one, w.limited.Key, w.from.Add(1))
					return err == nil
				})
			}
			if t.Failed() {
				break
			}
		}
	}
	stop()
	users.Wait()
	lost := w.lost(t)
	// The last checks of the replicas spent calls too.
	over := max(0, w.allowed.Load()-w.most)
	for _, note := range w.notes[:min(20, len(w.notes))] {
		t.Error(note)
	}
	if over > 0 || lost > 0 || w.stale.Load() > 0 {
		t.Errorf("%d calls over the limit, %d acknowledged changes lost, %d calls with deleted keys accepted", over, lost, w.stale.Load())
	}
	if w.probes.Load() == 0 || w.allowed.Load() == 0 || w.denied.Load()+w.undecided.Load() == 0 || len(w.live) == 0 || len(w.deleted) == 0 {
		t.Errorf("hardly anything happened: %d probes, %d calls allowed, %d keys live", w.probes.Load(), w.allowed.Load(), len(w.live))
	}
	return fmt.Sprintf("over_limit=%d lost=%d stale=%d faults=%d acknowledged=%d refused=%d allowed=%d probes=%d undecided=%d",
		over, lost, w.stale.Load(), befell, w.acknowledged.Load(), w.refused.Load(), w.allowed.Load(), w.probes.Load(), w.undecided.Load())
}

// lost counts the acknowledged changes that a replica does not know.
func (w *world) lost(t *testing.T) (lost int) {
	t.Helper()
	for i, r := range w.replicas {
		for _, group := range []struct {
			keys []admin.CreatedKey
			want bool
		}{{w.live, true}, {w.deleted, false}} {
			for _, key := range group.keys {
				ok, err := r.check(t.Context(), key.Key, w.from.Add(1))
				if err != nil {
					t.Fatalf("replica %d: %v", i, err)
				}
				if ok != group.want {
					lost++
					w.note("replica %d: key %d is accepted: %v, expected %v", i, key.ID, ok, group.want)
				}
			}
		}
	}
	return lost
}
