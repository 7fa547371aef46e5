package block_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
)

func newTable(t testing.TB, o block.Options) *block.Table {
	t.Helper()
	table, err := block.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func four(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func TestTenthFailureBlocksUntilTheWindowCloses(t *testing.T) {
	table := newTable(t, block.Options{})
	start := time.Now()
	client := addr("192.0.2.1")
	for i := range 10 {
		now := start.Add(time.Duration(i) * 20 * time.Second)
		if _, blocked := table.Blocked(client, now); blocked {
			t.Fatalf("blocked after %d failures", i)
		}
		if blockedNow := table.Failed(client, apikey.ReasonUnknownKey, now); blockedNow != (i == 9) {
			t.Fatalf("failure %d: blocked now: %v", i+1, blockedNow)
		}
	}
	at := start.Add(200 * time.Second)
	if left, blocked := table.Blocked(client, at); !blocked || left != 100*time.Second {
		t.Fatalf("after ten failures: blocked %v for %v", blocked, left)
	}
	if table.Failed(client, apikey.ReasonOrigin, at) {
		t.Fatal("a blocked address was blocked again")
	}
	want := block.Entry{
		Prefix: netip.MustParsePrefix("192.0.2.1/32"), Since: start.Add(180 * time.Second),
		Left: 100 * time.Second, Failures: 11, LastReason: apikey.ReasonOrigin,
	}
	if list := table.List(at); len(list) != 1 || !list[0].Since.Equal(want.Since) {
		t.Fatalf("listed: %+v", list)
	} else if list[0].Since = want.Since; list[0] != want {
		t.Fatalf("listed %+v, expected %+v", list[0], want)
	}
	if _, blocked := table.Blocked(client, start.Add(5*time.Minute-time.Millisecond)); !blocked {
		t.Fatal("not blocked a millisecond before the window closes")
	}
	closed := start.Add(5 * time.Minute)
	if _, blocked := table.Blocked(client, closed); blocked || len(table.List(closed)) != 0 {
		t.Fatal("still blocked when the window closed")
	}
	if table.Failed(client, apikey.ReasonOrigin, closed) {
		t.Fatal("the first failure of the next window blocked")
	}
}

// An exemption that is made later holds for a block that stands, and one that
// is taken back lets it hold again.
func TestSetNever(t *testing.T) {
	table := newTable(t, block.Options{Threshold: 1})
	client, now := addr("192.0.2.1"), time.Now()
	table.Failed(client, apikey.ReasonUnknownKey, now)
	for _, step := range []struct {
		name    string
		never   []netip.Prefix
		blocked bool
	}{
		{"none", nil, true},
		{"its own", []netip.Prefix{netip.MustParsePrefix("::ffff:192.0.2.0/120")}, false},
		{"another", []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, true},
	} {
		if err := table.SetNever(step.never); err != nil {
			t.Fatal(err)
		}
		if _, blocked := table.Blocked(client, now); blocked != step.blocked {
			t.Errorf("%s: blocked is %v", step.name, blocked)
		}
	}
	if err := table.SetNever([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), {}}); err == nil {
		t.Error("a prefix that is none is taken")
	}
	if _, blocked := table.Blocked(client, now); !blocked {
		t.Error("prefixes that were refused hold")
	}
}

func TestAddressesThatAreOneClient(t *testing.T) {
	tests := []struct {
		name, failing, asked string
		blocked              bool
	}{
		{"itself", "192.0.2.1", "192.0.2.1", true},
		{"another IPv4 address", "192.0.2.1", "192.0.2.2", false},
		{"IPv4 mapped into IPv6", "::ffff:192.0.2.1", "192.0.2.1", true},
		{"IPv6 asked as mapped", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"same /64", "2001:db8::1", "2001:db8::ffff:1:2:3", true},
		{"zone of the same /64", "fe80::1%eth0", "fe80::2%eth1", true},
		{"next /64", "2001:db8::1", "2001:db8:0:1::1", false},
		{"IPv4 against the IPv6 prefix of the same bits", "0.0.0.1", "0:0:0:1::", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable(t, block.Options{Threshold: 1})
			now := time.Now()
			if !table.Failed(addr(tt.failing), apikey.ReasonUnknownKey, now) {
				t.Fatal("the first failure did not block at a threshold of 1")
			}
			if _, blocked := table.Blocked(addr(tt.asked), now); blocked != tt.blocked {
				t.Errorf("%s failed: %s is blocked: %v", tt.failing, tt.asked, blocked)
			}
			if was := table.Unblock(addr(tt.asked), now); was != tt.blocked {
				t.Errorf("unblocking %s: %v", tt.asked, was)
			}
			if _, blocked := table.Blocked(addr(tt.failing), now); blocked == tt.blocked {
				t.Errorf("%s unblocked: %s is blocked: %v", tt.asked, tt.failing, blocked)
			}
		})
	}
}

func TestUnknownAddressIsNeverBlocked(t *testing.T) {
	table := newTable(t, block.Options{Threshold: 1})
	if table.Failed(netip.Addr{}, apikey.ReasonUnknownKey, time.Now()) {
		t.Error("an unknown address was blocked")
	}
	if _, blocked := table.Blocked(netip.Addr{}, time.Now()); blocked {
		t.Error("an unknown address is blocked")
	}
	if stats := table.Stats(); stats.Unknown != 2 || stats.Addresses != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestNeverBlocked(t *testing.T) {
	table := newTable(t, block.Options{Threshold: 1, Never: []netip.Prefix{
		netip.MustParsePrefix("::ffff:10.0.0.0/104"), netip.MustParsePrefix("2001:db8::7/128"),
	}})
	now := time.Now()
	for _, exempt := range []string{"10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"} {
		if table.Failed(addr(exempt), apikey.ReasonUnknownKey, now) {
			t.Errorf("%s was blocked", exempt)
		}
	}
	if !table.Failed(addr("2001:db8::8"), apikey.ReasonUnknownKey, now) {
		t.Error("its neighbour was not blocked")
	}
	if _, blocked := table.Blocked(addr("2001:db8::7"), now); blocked {
		t.Error("an address that is never blocked is, with its /64")
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, o := range map[string]block.Options{
		"negative capacity": {Capacity: -1}, "negative threshold": {Threshold: -1}, "negative window": {Window: -1},
		"a window of nanoseconds": {Window: 1}, "a window of two days": {Window: 48 * time.Hour}, "an invalid prefix": {Never: make([]netip.Prefix, 1)},
	} {
		if _, err := block.New(t.Context(), o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestNothingAllocates(t *testing.T) {
	table := newTable(t, block.Options{})
	now := time.Now()
	blocked := addr("192.0.2.1")
	for range 10 {
		table.Failed(blocked, apikey.ReasonUnknownKey, now)
	}
	n := uint32(0)
	for name, call := range map[string]func(){
		"Blocked":              func() { table.Blocked(blocked, now) },
		"Failed, same address": func() { table.Failed(blocked, apikey.ReasonUnknownKey, now) },
		"Failed, new address":  func() { n++; table.Failed(four(n), apikey.ReasonUnknownKey, now) },
	} {
		if allocs := testing.AllocsPerRun(1000, call); allocs != 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}
