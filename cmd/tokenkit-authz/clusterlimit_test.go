package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Of ten times as many calls as a limit allows, made at three replicas at once
// and unevenly, the limit and no more pass, and not much less; also where a
// replica crashes in the middle.
func TestClusterLimit(t *testing.T) {
	const most = 5000
	for _, mode := range []struct {
		name   string
		crash  bool
		limits limitsIn
	}{
		{name: "all live"}, {name: "one is killed", crash: true}, {name: "limits in etcd", limits: sameEtcd},
	} {
		t.Run(mode.name, func(t *testing.T) {
			c := startCluster(t, 1, 3, mode.limits)
			c.addUser(t)
			key, err := c.replicas[0].newKey(t.Context(), most)
			if err != nil {
				t.Fatal(err)
			}
			var allowed, calls atomic.Int64
			var failed [3]atomic.Int64
			var all sync.WaitGroup
			const killed, atOnce = 1, 20
			// Each has calls left when the limit is spent, so that it holds none of it.
			for i, share := range []int64{32_500, 12_500, 5000} {
				var left atomic.Int64
				left.Store(share)
				callers := 100
				if mode.crash && i == killed {
					callers = atOnce // some of their calls are allowed, but they never hear of it
				}
				for range callers {
					all.Go(func() {
						for left.Add(-1) >= 0 {
							// About what is decided, not how fast.
							ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
							ok, err := c.replicas[i].check(ctx, key.Key, uint32(calls.Add(1)))
							cancel()
							switch {
							case err != nil:
								failed[i].Add(1)
							case ok:
								allowed.Add(1)
							}
						}
					})
				}
			}
			if mode.crash {
				for allowed.Load() < most/3 {
					time.Sleep(time.Millisecond)
				}
				c.replicas[killed].kill(t)
			}
			all.Wait()
			least, undecided := int64(most*98/100), failed[0].Load()+failed[2].Load()
			if mode.crash {
				least -= atOnce
			} else {
				undecided += failed[killed].Load()
			}
			if undecided > calls.Load()/20 { // a machine that is busy with other things answers late
				t.Errorf("%d calls were not decided", undecided)
			}
			if undecided > 0 { // an answer that comes too late has leased in vain
				least -= most / 50
			}
			over := max(0, allowed.Load()-most)
			if over > 0 || allowed.Load() < least {
				t.Errorf("%d calls were allowed, expected %d to %d", allowed.Load(), least, most)
			}
			fmt.Printf("over_limit=%d allowed=%d calls=%d\n", over, allowed.Load(), calls.Load())
		})
	}
}
