// Package backendtest has the tests that every [shared.Backend] passes, with
// the real thing behind it.
//
//	func TestBlocks(t *testing.T) {
//		backendtest.Run(t, func(t *testing.T) backendtest.Server {
//			s := start(t)
//			return backendtest.Server{Open: s.open, Stop: s.stop}
//		})
//	}
package backendtest

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
)

// Server is what keeps the blocks of one test.
type Server struct {
	// Open returns a connection for one more replica, which ends with the test.
	Open func(testing.TB) shared.Backend
	// Stop ends the server, as a crash does.
	Stop func(testing.TB)
}

// Run tests backends over servers that start makes, one for each test.
func Run(t *testing.T, start func(*testing.T) Server) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, Server)
	}{
		{"blocks are shared", sharesBlocks},
		{"many failures at once", failuresAtOnce},
		{"a window closes", windowCloses},
		{"without a server", withoutServer},
		{"a block is known when it is answered", knownWhenAnswered},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, start(t)) })
	}
}

// Replicas runs the tables of some replicas until the test ends.
func Replicas(t *testing.T, s Server, count int, o block.Options) []*shared.Table {
	t.Helper()
	var tables []*shared.Table
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	backends := make([]shared.Backend, count)
	for i := range backends {
		backends[i] = s.Open(t)
	}
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	for _, backend := range backends {
		local, err := block.New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		table, err := shared.New(shared.Options{
			Table: local, Backend: backend, Threshold: o.Threshold, Window: o.Window,
			Wait:   5 * time.Second, // about what is counted, not how fast
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
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

// Eventually waits for something that other processes do.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited for 30 s until %s", what)
		}
	}
}

// IsBlocked asks one replica about an address.
func IsBlocked(table *shared.Table, addr netip.Addr) bool {
	_, blocked := table.Blocked(addr, time.Now())
	return blocked
}

// AllBlocked waits until all replicas have blocked all of these addresses, which
// failed often enough. Where the server did not answer in time, as on a busy
// machine, some failures counted at one replica only, and they fail once more.
func AllBlocked(t testing.TB, tables []*shared.Table, addrs []netip.Addr) {
	t.Helper()
	var errors uint64
	for _, table := range tables {
		errors += table.Stats().Errors
	}
	Eventually(t, "each replica has heard of all", func() bool {
		all := true
		for _, addr := range addrs {
			for _, table := range tables {
				if IsBlocked(table, addr) {
					continue
				}
				all = false
				if errors > 0 {
					table.Failed(addr, apikey.ReasonUnknownKey, time.Now())
				}
			}
		}
		return all
	})
	for i, table := range tables {
		if n := len(table.List(time.Now())); n != len(addrs) {
			t.Errorf("replica %d blocks %d addresses, expected %d", i, n, len(addrs))
		}
	}
}

func four(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }

// sharesBlocks: ten failures, wherever they happen, block an address
// everywhere, exactly once; unblocking it anywhere does so everywhere.
func sharesBlocks(t *testing.T, s Server) {
	tables := Replicas(t, s, 3, block.Options{})
	for _, text := range []string{"192.0.2.1", "2001:db8::1"} {
		addr := netip.MustParseAddr(text)
		for i := range 9 {
			if tables[i%3].Failed(addr, apikey.ReasonUnknownKey, time.Now()) || IsBlocked(tables[i%3], addr) {
				t.Fatalf("%s was blocked by failure %d", addr, i+1)
			}
		}
		if !tables[0].Failed(addr, apikey.ReasonOrigin, time.Now()) || !IsBlocked(tables[0], addr) {
			t.Fatalf("%s was not blocked by its tenth failure", addr)
		}
		for i, table := range tables {
			Eventually(t, "each replica has heard of it", func() bool { return IsBlocked(table, addr) })
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
			Eventually(t, "each replica has unblocked it", func() bool { return !IsBlocked(table, addr) })
		}
		if was, err := tables[1].Unblock(t.Context(), addr, time.Now()); err != nil || was {
			t.Errorf("unblocking what is not blocked: %v, %v", was, err)
		}
		if tables[0].Failed(addr, apikey.ReasonOrigin, time.Now()) {
			t.Error("one failure after unblocking blocked again")
		}
	}
	for range 10 {
		tables[0].Failed(four(77), apikey.ReasonUnknownKey, time.Now())
	}
	// One that starts later hears of what was blocked before, and goes on
	// counting where the others are.
	for range 6 {
		tables[1].Failed(four(78), apikey.ReasonUnknownKey, time.Now())
	}
	late := Replicas(t, s, 1, block.Options{})[0]
	Eventually(t, "a new replica knows of the block", func() bool { return IsBlocked(late, four(77)) })
	for i := range 4 {
		if blocked := late.Failed(four(78), apikey.ReasonUnknownKey, time.Now()); blocked != (i == 3) {
			t.Errorf("failure %d, at a new replica: blocked now: %v", i+7, blocked)
		}
	}
}

// failuresAtOnce has many replicas' failures at once, of more addresses than
// are told of at once.
func failuresAtOnce(t *testing.T, s Server) {
	tables := Replicas(t, s, 3, block.Options{})
	const addresses, parts = 700, 4
	addrs := make([]netip.Addr, addresses)
	for a := range addrs {
		addrs[a] = netip.AddrFrom4([4]byte{10, 0, byte(a >> 8), byte(a)})
	}
	var reported atomic.Int32
	var group sync.WaitGroup
	for i := range 12 * parts {
		group.Go(func() {
			for a := i % parts; a < addresses; a += parts {
				if tables[i%3].Failed(addrs[a], apikey.ReasonUnknownKey, time.Now()) {
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
	AllBlocked(t, tables, addrs)
}

// windowCloses: a window that closed counts no more, at the server as here.
func windowCloses(t *testing.T, s Server) {
	const window = 300 * time.Millisecond
	tables := Replicas(t, s, 2, block.Options{Threshold: 2, Window: window})
	tables[0].Failed(four(1), apikey.ReasonUnknownKey, time.Now())
	counted := time.Now()
	Eventually(t, "the window is over", func() bool { return time.Since(counted) > window+100*time.Millisecond })
	if tables[1].Failed(four(1), apikey.ReasonUnknownKey, time.Now()) {
		t.Error("a failure of a window that closed was counted")
	}
	for _, table := range tables {
		if stats := table.Stats(); stats.Alone > 0 || stats.Errors > 0 {
			t.Errorf("%+v", stats)
		}
	}
}

// withoutServer: while the server is away each replica counts for itself;
// blocks stay.
func withoutServer(t *testing.T, s Server) {
	tables := Replicas(t, s, 2, block.Options{})
	known, other := four(1), four(2)
	for range 10 {
		tables[0].Failed(known, apikey.ReasonUnknownKey, time.Now())
	}
	Eventually(t, "both know", func() bool { return IsBlocked(tables[1], known) })
	for range 4 {
		tables[0].Failed(other, apikey.ReasonUnknownKey, time.Now())
	}
	s.Stop(t)
	blockedAt := 0
	for i := range 10 {
		if tables[0].Failed(other, apikey.ReasonUnknownKey, time.Now()) {
			blockedAt = i + 5
		}
	}
	if blockedAt != 10 || !IsBlocked(tables[0], other) || !IsBlocked(tables[1], known) {
		t.Errorf("without a server it was blocked at failure %d, expected 10", blockedAt)
	}
	if _, err := tables[0].Unblock(t.Context(), other, time.Now()); err == nil || IsBlocked(tables[0], other) {
		t.Errorf("unblocking without a server: %v", err)
	}
	if stats := tables[0].Stats(); stats.Alone == 0 || !stats.Failing || stats.Told != 14 {
		t.Errorf("%+v", stats)
	}
}

// knownWhenAnswered: when the failure that blocks an address is answered, all
// replicas know, but for one that is not there.
func knownWhenAnswered(t *testing.T, s Server) {
	tables := Replicas(t, s, 3, block.Options{Threshold: 2})
	for range 2 {
		tables[0].Failed(four(255), apikey.ReasonUnknownKey, time.Now())
	}
	for _, table := range tables {
		Eventually(t, "all replicas ask for changes", func() bool { return IsBlocked(table, four(255)) })
	}
	for i := range 40 {
		addr := four(byte(i))
		first, second := tables[i%3], tables[(i+1)%3]
		first.Failed(addr, apikey.ReasonUnknownKey, time.Now())
		if !second.Failed(addr, apikey.ReasonUnknownKey, time.Now()) {
			t.Fatalf("%v: the second failure did not block it", addr)
		}
		for j, table := range tables {
			if !IsBlocked(table, addr) && second.Stats().Unsettled == 0 {
				t.Errorf("%v: replica %d does not know", addr, j)
			}
		}
		if _, err := first.Unblock(t.Context(), addr, time.Now()); err != nil {
			t.Fatal(err)
		}
		for j, table := range tables {
			if IsBlocked(table, addr) && first.Stats().Unsettled == 0 {
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
