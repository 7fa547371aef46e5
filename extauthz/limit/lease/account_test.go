package lease_test

import (
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// What an account pays where grants were, or may have been, forgotten.
func TestCharges(t *testing.T) {
	const perHour, now = 6400, int64(1_700_000_000_000)
	tests := []struct {
		name       string
		before     uint32 // tokens leased before; zero: the account is new
		generation string
		seen       uint64
		charged    uint32
	}{
		{name: "nothing was forgotten", before: 100, generation: "a", seen: 100},
		{name: "a replica that saw less", before: 100, generation: "a", seen: 60},
		{name: "a new key", generation: "a"},
		{name: "another run", before: 100, generation: "b", seen: 100, charged: 100},
		{name: "another run, and grants are missing", before: 100, generation: "b", seen: 130, charged: 130},
		{name: "the same run, and grants are missing", before: 100, generation: "a", seen: 130, charged: 130},
		{name: "more is missing than is left", before: 6000, generation: "a", seen: 9000, charged: 400},
		{name: "the account is gone", generation: "b", seen: 1, charged: perHour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var account lease.Account
			if tt.before > 0 {
				account.Exchange(&lease.Request{Limit: perHour, Tokens: tt.before, Span: time.Minute, Lease: lease.ID{Number: 1}}, now, "a")
			}
			r := lease.Request{Limit: perHour, Seen: tt.seen, Span: time.Minute}
			grant := account.Exchange(&r, now+1000, tt.generation)
			if grant.Charged != tt.charged || grant.Left != perHour-tt.before-tt.charged {
				t.Errorf("charged %d, expected %d; %d left", grant.Charged, tt.charged, grant.Left)
			}
			r.Seen = grant.Total
			if again := account.Exchange(&r, now+2000, tt.generation); again.Charged != 0 {
				t.Errorf("charged %d a second time", again.Charged)
			}
			if later := account.Exchange(&r, now+62*60_000, tt.generation); later.Left != perHour {
				t.Errorf("%d of %d are left after an hour and two minutes", later.Left, perHour)
			}
		})
	}
}

// A replica tells an engine that was wiped what it has seen, looking included.
func TestWipedEngine(t *testing.T) {
	engine := &lease.Memory{}
	running(t, 1, lease.Options{Engine: engine}, func(t *testing.T, limiters []*lease.Limiter) {
		l, k := limiters[0], key(7, 6400)
		for range 100 {
			spend(t, l, k, 1)
		}
		engine.Restore(map[apikey.KeyID]lease.Account{}, "wiped")
		if look, err := l.Look(t.Context(), k, 1, time.Now()); err != nil || look.Remaining > 6400/50 {
			t.Errorf("%d calls remain, expected what is leased; %v", look.Remaining, err)
		}
		passed := 0
		for range 6400 {
			if spend(t, l, k, 1).Allowed {
				passed++
			}
		}
		if passed > 6400/50 {
			t.Errorf("%d calls passed after the engine was wiped, expected what was leased", passed)
		}
	})
}
