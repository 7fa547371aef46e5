package block_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
)

func TestAdopt(t *testing.T) {
	client := addr("192.0.2.1")
	known := block.Remote{Prefix: block.PrefixOf(client), Age: time.Minute, Failures: 9, Reason: apikey.ReasonOrigin}
	over := known
	over.Age, over.Blocked = 5*time.Minute, true
	blocked := known
	blocked.Failures, blocked.Blocked, blocked.BlockedAgo = 10, true, 20*time.Second
	tests := []struct {
		name       string
		before     int // failures seen here, a second before
		remote     block.Remote
		counted    bool
		blockedNow bool
		left       time.Duration // zero: not blocked
		further    int           // failures until it is blocked, where it is not
	}{
		{name: "nine elsewhere", remote: known, further: 1},
		{name: "nine in all, some of them here", before: 3, remote: known, counted: true, further: 1},
		{name: "more here than elsewhere", before: 9, remote: block.Remote{Prefix: known.Prefix, Failures: 2, Reason: apikey.ReasonOrigin}, further: 1},
		{name: "the tenth, of which others do not know", before: 9, remote: block.Remote{Prefix: known.Prefix, Failures: 1, Reason: apikey.ReasonOrigin}, counted: true, blockedNow: true, left: 5*time.Minute - time.Second},
		{name: "blocked elsewhere", remote: blocked, blockedNow: true, left: 4 * time.Minute},
		{name: "blocked elsewhere, seen here", before: 4, remote: blocked, blockedNow: true, left: 4 * time.Minute},
		{name: "blocked here and elsewhere", before: 10, remote: blocked, left: 4 * time.Minute},
		{name: "blocked here only", before: 10, remote: known, left: 5*time.Minute - time.Second},
		{name: "a window that is over", remote: over, further: 10},
		{name: "no address", remote: block.Remote{Blocked: true}, further: 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable(t, block.Options{})
			now := time.Now()
			for range tt.before {
				table.Failed(client, apikey.ReasonUnknownKey, now)
			}
			now = now.Add(time.Second)
			if got := table.Adopt(tt.remote, tt.counted, now); got != tt.blockedNow {
				t.Errorf("it reports %v", got)
			}
			left, isBlocked := table.Blocked(client, now)
			if left != tt.left || isBlocked != (tt.left > 0) {
				t.Errorf("blocked for %v, expected %v", left, tt.left)
			}
			further := 0
			for !isBlocked && further < 20 {
				further++
				table.Failed(client, apikey.ReasonUnknownKey, now)
				_, isBlocked = table.Blocked(client, now)
			}
			if further != tt.further {
				t.Errorf("blocked after %d further failures, expected %d", further, tt.further)
			}
			if _, still := table.Blocked(client, now.Add(5*time.Minute)); still {
				t.Error("still blocked when every window is over")
			}
		})
	}
}

func TestAdoptedBlockIsListed(t *testing.T) {
	table := newTable(t, block.Options{})
	now := time.Now()
	prefix := netip.MustParsePrefix("2001:db8:1::/64")
	table.Adopt(block.Remote{Prefix: prefix, Age: time.Minute, Failures: 12, Reason: apikey.ReasonScope, Blocked: true, BlockedAgo: 20 * time.Second}, false, now)
	list := table.List(now)
	if len(list) != 1 || list[0].Prefix != prefix || list[0].Failures != 12 || list[0].LastReason != apikey.ReasonScope || !list[0].Since.Equal(now.Add(-20*time.Second)) {
		t.Errorf("listed: %+v", list)
	}
}
