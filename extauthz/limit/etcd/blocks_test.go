package etcd_test

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/extauthz/block/shared/backendtest"
	"github.com/tokenkithq/authz/extauthz/limit/etcd"
)

// blocksServer lets replicas write as often as they want to where the test is
// not about that.
func blocksServer(m *member, writes int) backendtest.Server {
	return backendtest.Server{
		Open: func(testing.TB) shared.Backend {
			return m.open(etcd.Options{}).Blocks(etcd.BlockOptions{Writes: writes})
		},
		Stop: func(testing.TB) { m.server.Server.HardStop() },
	}
}

func TestBlocks(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backendtest.Server { return blocksServer(newMember(t), 1_000_000) })
}

// Who guesses keys as fast as he can makes etcd write a few times a second,
// and all is counted.
func TestBlocksWriteSeldom(t *testing.T) {
	m := newMember(t)
	const replicas, writes = 2, 10
	tables := backendtest.Replicas(t, blocksServer(m, 0), replicas, block.Options{})
	for range 10 {
		tables[0].Failed(netip.MustParseAddr("192.0.2.1"), apikey.ReasonUnknownKey, time.Now())
	}
	for _, table := range tables {
		backendtest.Eventually(t, "all replicas ask for changes", func() bool { return len(table.List(time.Now())) == 1 })
	}
	client := m.client()
	revision := func() int64 {
		t.Helper()
		response, err := client.Get(t.Context(), "any")
		if err != nil {
			t.Fatal(err)
		}
		return response.Header.Revision
	}
	began, before := time.Now(), revision()
	const addresses, rounds, atOnce = 160, 10, 40
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for a := range addresses {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, byte(a >> 8), byte(a)}))
	}
	var group sync.WaitGroup
	for _, table := range tables {
		for part := range atOnce {
			group.Go(func() {
				for range rounds / replicas {
					for a := part; a < addresses; a += atOnce {
						table.Failed(addrs[1+a], apikey.ReasonUnknownKey, time.Now())
					}
				}
			})
		}
	}
	group.Wait()
	backendtest.AllBlocked(t, tables, addrs)
	took, made := time.Since(began), revision()-before
	// A burst comes first, and the clock is written too, once a second.
	most := int64(replicas*(21+writes*took.Seconds()) + took.Seconds() + 1)
	t.Logf("%d writes for %d failures in %v, expected at most %d", made, addresses*rounds, took, most)
	if made > most {
		t.Errorf("%d writes for %d failures in %v, expected at most %d", made, addresses*rounds, took, most)
	}
}

// Events vanish, all of them by a lease.
func TestBlocksLeaveNothing(t *testing.T) {
	m := newMember(t)
	tables := backendtest.Replicas(t, blocksServer(m, 1_000_000), 1, block.Options{})
	for range 10 {
		tables[0].Failed(netip.MustParseAddr("192.0.2.1"), apikey.ReasonUnknownKey, time.Now())
	}
	if _, err := tables[0].Unblock(t.Context(), netip.MustParseAddr("192.0.2.1"), time.Now()); err != nil {
		t.Fatal(err)
	}
	client := m.client()
	response, err := client.Get(t.Context(), "tokenkit/block", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(response.Kvs) < 12 {
		t.Errorf("%d records, expected ten failures, an unblock, and the replica", len(response.Kvs))
	}
	for _, kv := range response.Kvs {
		lease, err := client.TimeToLive(t.Context(), clientv3.LeaseID(kv.Lease))
		if err != nil || kv.Lease == 0 || lease.GrantedTTL > int64((block.DefaultWindow+2*time.Minute)/time.Second) {
			t.Errorf("%s: %+v, %v", kv.Key, lease, err)
		}
	}
}

// A damaged event is named, and failures are counted by each replica alone.
func TestBlocksDamaged(t *testing.T) {
	m := newMember(t)
	if _, err := m.client().Put(t.Context(), "tokenkit/block-events/x.1", "damaged"); err != nil {
		t.Fatal(err)
	}
	tables := backendtest.Replicas(t, blocksServer(m, 0), 1, block.Options{})
	backendtest.Eventually(t, "it is noted", func() bool { return tables[0].Stats().Failing })
	for i := range 10 {
		if blocked := tables[0].Failed(netip.MustParseAddr("192.0.2.1"), apikey.ReasonUnknownKey, time.Now()); blocked != (i == 9) {
			t.Errorf("failure %d: blocked now: %v", i+1, blocked)
		}
	}
}

// A server that comes back, and has forgotten the past, has all be counted
// together again.
func TestBlocksAfterRestart(t *testing.T) {
	m := newMember(t)
	tables := backendtest.Replicas(t, blocksServer(m, 1_000_000), 2, block.Options{})
	before, after := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for i := range 10 {
		tables[i%2].Failed(before, apikey.ReasonUnknownKey, time.Now())
	}
	for i := range 6 {
		tables[i%2].Failed(after, apikey.ReasonUnknownKey, time.Now())
	}
	m.stop()
	m.start()
	client := m.client()
	response, err := client.Put(t.Context(), "any", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), response.Header.Revision); err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		backendtest.Eventually(t, "it is asked again", func() bool { return !table.Stats().Failing })
	}
	// Some may be counted alone until events are followed again.
	failures := 6
	backendtest.Eventually(t, "all replicas have blocked it", func() bool {
		if !backendtest.IsBlocked(tables[failures%2], after) {
			tables[failures%2].Failed(after, apikey.ReasonUnknownKey, time.Now())
			failures++
		}
		return backendtest.IsBlocked(tables[0], after) && backendtest.IsBlocked(tables[1], after)
	})
	if failures < 10 {
		t.Errorf("it was blocked after %d failures", failures)
	}
	if !backendtest.IsBlocked(tables[0], before) || !backendtest.IsBlocked(tables[1], before) {
		t.Error("what was blocked before is not any more")
	}
	if was, err := tables[1].Unblock(t.Context(), before, time.Now()); err != nil || !was {
		t.Errorf("unblocking: %v, %v", was, err)
	}
	backendtest.Eventually(t, "all replicas have unblocked it", func() bool { return !backendtest.IsBlocked(tables[0], before) })
}
