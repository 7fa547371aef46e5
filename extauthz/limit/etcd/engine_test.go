package etcd_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/etcd"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/lease/enginetest"
)

func TestEngine(t *testing.T) {
	m := newMember(t)
	engine := m.open(etcd.Options{Lag: -1})
	enginetest.Run(t, func(*testing.T) lease.Engine { return engine })
}

// Several engines on one key, with a restart of the server in between.
func TestReplicasShareOneLimit(t *testing.T) {
	m := newMember(t)
	const perHour = 5000
	key := &apikey.Key{ID: 7, RateLimitPerHour: perHour}
	var limiters []*lease.Limiter
	for range 3 {
		limiter, err := lease.New(lease.Options{Engine: m.open(etcd.Options{}), Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		limiters = append(limiters, limiter)
	}
	var allowed, failed atomic.Int64
	calls := func(count int) {
		var group sync.WaitGroup
		var next atomic.Int64
		for range 32 {
			group.Go(func() {
				for i := int(next.Add(1)); i <= count; i = int(next.Add(1)) {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					result, err := limiters[min(2, i%8)].Spend(ctx, key, 1, time.Now())
					cancel()
					if err != nil {
						failed.Add(1)
					} else if result.Allowed {
						allowed.Add(1)
					}
				}
			})
		}
		group.Wait()
	}
	calls(2000)
	m.stop()
	calls(500) // some are leased
	m.start()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for wait := 0; ; wait++ {
		before := failed.Load()
		if calls(3); failed.Load() == before {
			break
		}
		if <-tick.C; wait > 3000 {
			t.Fatal("limits did not work again within half a minute")
		}
	}
	// On a machine that is busy some fail; in the end all of the limit is used.
	for round := 0; round < 10; round++ {
		before := failed.Load()
		if calls(10_000); failed.Load() == before {
			break
		}
	}
	for _, limiter := range limiters {
		t.Logf("%+v", limiter.Stats())
		if err := limiter.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := allowed.Load(); n > perHour || n < perHour-300 {
		t.Errorf("%d calls of %d passed", n, perHour)
	}
}
