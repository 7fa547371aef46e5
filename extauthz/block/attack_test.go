package block_test

import (
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
)

// Somebody with more addresses than the table has room for does not push out
// those that are blocked, neither by failing once from each nor by having each
// of them blocked.
func TestAttackPushingBlocksOut(t *testing.T) {
	const capacity = 256
	for name, failures := range map[string]int{"failing once each": 1, "until each is blocked": 10} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, block.Options{Capacity: capacity})
			now := time.Now()
			fail := func(n uint32, times int) {
				for range times {
					table.Failed(four(n), apikey.ReasonUnknownKey, now)
				}
			}
			const victim = 1
			fail(victim, 10)
			for n := range uint32(100 * capacity) {
				fail(n+1000, failures)
			}
			if _, blocked := table.Blocked(four(victim), now); !blocked {
				t.Error("an address is no longer blocked")
			}
			if stats := table.Stats(); stats.Addresses > capacity {
				t.Errorf("%d addresses are remembered, want at most %d", stats.Addresses, capacity)
			}
		})
	}
}
