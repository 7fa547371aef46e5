package redis_test

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
)

// blockers runs some replicas' tables over one server.
func blockers(t *testing.T, count int, o redis.Options, b block.Options) []*shared.Table {
	t.Helper()
	var tables []*shared.Table
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	for range count {
		local, err := block.New(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		table, err := shared.New(shared.Options{Table: local, Backend: open(t, o).Blocks(), Threshold: b.Threshold, Window: b.Window, Wait: 5 * time.Second, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
		group.Go(func() {
			if err := table.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	return tables
}

func isBlocked(table *shared.Table, addr netip.Addr) bool {
	_, blocked := table.Blocked(addr, time.Now())
	return blocked
}

// Ten failures, wherever they happen, block an address everywhere, exactly
// once; unblocking it anywhere does so everywhere.
func TestBlocksAreShared(t *testing.T) {
	s := newServer(t)
	o := redis.Options{Addresses: []string{s.address}, AllowLoss: true}
	tables := blockers(t, 3, o, block.Options{})
	for _, text := range []string{"192.0.2.1", "2001:db8::1"} {
		addr := netip.MustParseAddr(text)
		for i := range 9 {
			if tables[i%3].Failed(addr, apikey.ReasonUnknownKey, time.Now()) || isBlocked(tables[i%3], addr) {
				t.Fatalf("%s was blocked by failure %d", addr, i+1)
			}
		}
		if !tables[0].Failed(addr, apikey.ReasonOrigin, time.Now()) || !isBlocked(tables[0], addr) {
			t.Fatalf("%s was not blocked by its tenth failure", addr)
		}
		for i, table := range tables {
			eventually(t, "each replica has heard of it", func() bool { return isBlocked(table, addr) })
			list := table.List(time.Now())
			if len(list) != 1 || list[0].Prefix != block.PrefixOf(addr) || list[0].Failures != 10 || list[0].LastReason != apikey.ReasonOrigin ||
				list[0].Left > 5*time.Minute+time.Second || list[0].Left < 4*time.Minute {
				t.Errorf("replica %d lists %+v", i, list)
			}
		}
		if tables[1].Failed(addr, apikey.ReasonOrigin, time.Now()) {
			t.Error("a blocked address was blocked again")
		}
		if was, err := tables[2].Unblock(t.Context(), addr, time.Now()); err != nil || !was {
			t.Errorf("unblocking: %v, %v", was, err)
		}
		for _, table := range tables {
			eventually(t, "each replica has unblocked it", func() bool { return !isBlocked(table, addr) })
		}
		if tables[0].Failed(addr, apikey.ReasonOrigin, time.Now()) {
			t.Error("one failure after unblocking blocked again")
		}
	}
	addr := netip.MustParseAddr("192.0.2.77")
	for range 10 {
		tables[0].Failed(addr, apikey.ReasonUnknownKey, time.Now())
	}
	// One that starts later hears of what was blocked before.
	late := blockers(t, 1, o, block.Options{})[0]
	eventually(t, "a new replica knows of the block", func() bool { return isBlocked(late, addr) })
}

// Many replicas' failures at once, of more addresses than are told of at once.
func TestFailuresAtOnce(t *testing.T) {
	s := newServer(t)
	tables := blockers(t, 3, redis.Options{Addresses: []string{s.address}, AllowLoss: true}, block.Options{})
	const addresses = 700
	var reported atomic.Int32
	var group sync.WaitGroup
	for i := range 36 {
		group.Go(func() {
			for a := range addresses {
				if tables[i%3].Failed(netip.AddrFrom4([4]byte{10, 0, byte(a >> 8), byte(a)}), apikey.ReasonUnknownKey, time.Now()) {
					reported.Add(1)
				}
			}
		})
	}
	group.Wait()
	// Each replica reports a block at most once: one that hears of it before
	// the answer to its own failure does not.
	if n := reported.Load(); n == 0 || n > 3*addresses {
		t.Errorf("%d blocks of %d addresses were reported by 3 replicas", n, addresses)
	}
	for _, table := range tables {
		eventually(t, "each replica has heard of all", func() bool { return len(table.List(time.Now())) == addresses })
	}
}

// A server that forgot its changes numbers them from the start: they are heard
// of all the same.
func TestServerForgotBlocks(t *testing.T) {
	s := newServer(t)
	tables := blockers(t, 2, redis.Options{Addresses: []string{s.address}, AllowLoss: true}, block.Options{})
	block := func(last byte) {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, last})
		for range 10 {
			tables[0].Failed(addr, apikey.ReasonUnknownKey, time.Now())
		}
		eventually(t, "the other replica has heard of it", func() bool { return isBlocked(tables[1], addr) })
	}
	block(1)
	block(2)
	s.expect("+OK", "FLUSHALL")
	block(3)
	if !isBlocked(tables[1], netip.AddrFrom4([4]byte{192, 0, 2, 1})) {
		t.Error("what was known to be blocked is not any more")
	}
}

// A window that closed counts no more, at the server as here.
func TestWindowCloses(t *testing.T) {
	s := newServer(t)
	tables := blockers(t, 2, redis.Options{Addresses: []string{s.address}, AllowLoss: true}, block.Options{Threshold: 2, Window: 300 * time.Millisecond})
	addr := netip.MustParseAddr("192.0.2.1")
	tables[0].Failed(addr, apikey.ReasonUnknownKey, time.Now())
	eventually(t, "the window is over", func() bool {
		return s.run("EXISTS", "tokenkit:{blocks}:address:192.0.2.1/32") == ":0"
	})
	if tables[1].Failed(addr, apikey.ReasonUnknownKey, time.Now()) {
		t.Error("a failure of a window that closed was counted")
	}
}

// While the server is away each replica counts for itself; blocks stay.
func TestBlocksWithoutServer(t *testing.T) {
	s := newServer(t)
	tables := blockers(t, 2, redis.Options{Addresses: []string{s.address}, AllowLoss: true}, block.Options{})
	known, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for range 10 {
		tables[0].Failed(known, apikey.ReasonUnknownKey, time.Now())
	}
	eventually(t, "both know", func() bool { return isBlocked(tables[1], known) })
	for range 4 {
		tables[0].Failed(other, apikey.ReasonUnknownKey, time.Now())
	}
	s.signal(syscall.SIGKILL)
	blockedAt := 0
	for i := range 10 {
		if tables[0].Failed(other, apikey.ReasonUnknownKey, time.Now()) {
			blockedAt = i + 5
		}
	}
	if blockedAt != 10 || !isBlocked(tables[0], other) || !isBlocked(tables[1], known) {
		t.Errorf("without a server it was blocked at failure %d, expected 10", blockedAt)
	}
	if _, err := tables[0].Unblock(t.Context(), other, time.Now()); err == nil || isBlocked(tables[0], other) {
		t.Errorf("unblocking without a server: %v", err)
	}
	if stats := tables[0].Stats(); stats.Alone == 0 || !stats.Failing || stats.Told != 14 {
		t.Errorf("%+v", stats)
	}
}

// When the failure that blocks an address is answered, all replicas know, but
// for one that is not there.
func TestBlocksAreKnownWhenTheyAreAnswered(t *testing.T) {
	s := newServer(t)
	o := redis.Options{Addresses: []string{s.address}, AllowLoss: true}
	tables := blockers(t, 3, o, block.Options{Threshold: 2})
	for _, table := range tables { // until they all ask for changes
		eventually(t, "all replicas are there", func() bool { return table.Stats().Changes == 0 && !table.Stats().Failing })
	}
	time.Sleep(100 * time.Millisecond)
	for i := range 40 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		first, second := tables[i%3], tables[(i+1)%3]
		first.Failed(addr, apikey.ReasonUnknownKey, time.Now())
		if !second.Failed(addr, apikey.ReasonUnknownKey, time.Now()) {
			t.Fatalf("%v: the second failure did not block it", addr)
		}
		for j, table := range tables {
			if !isBlocked(table, addr) && second.Stats().Unsettled == 0 {
				t.Errorf("%v: replica %d does not know", addr, j)
			}
		}
		if _, err := first.Unblock(t.Context(), addr, time.Now()); err != nil {
			t.Fatal(err)
		}
		for j, table := range tables {
			if isBlocked(table, addr) && first.Stats().Unsettled == 0 {
				t.Errorf("%v: replica %d does not know that it is unblocked", addr, j)
			}
		}
	}
	var unsettled uint64
	for _, table := range tables {
		unsettled += table.Stats().Unsettled
	}
	if unsettled > 20 {
		t.Errorf("%d of 80 changes were not known in time", unsettled)
	}
}
