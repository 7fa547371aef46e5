package limit_test

import (
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// Removing very many old records takes several saves, which must not remove
// the record of a key that has since been used again.
func TestOldRecordsOfKeysInUse(t *testing.T) {
	const keys = 40_000
	d := &disk{inner: newMemory()}
	now := time.Now()
	clock := func() time.Time { return now }
	l := newLimiter(t, limit.Options{Journal: d, Now: clock})
	for id := range apikey.KeyID(keys) {
		spend(t, l, oldKey(id+1, 6400), now)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	l = newLimiter(t, limit.Options{Journal: d, Now: clock})
	for id := range apikey.KeyID(10) {
		spend(t, l, oldKey(1+id*keys/10, 6400), now)
	}
	for range 5 {
		if err := l.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.inner.records) != 10 {
		t.Errorf("%d records are left, expected those of the 10 keys in use", len(d.inner.records))
	}
}

func TestCapacity(t *testing.T) {
	l := newLimiter(t, limit.Options{Capacity: 100})
	now := time.Now()
	for id := range apikey.KeyID(100) {
		if !spend(t, l, oldKey(id+1, 5), now).Allowed {
			t.Fatalf("key %d of 100 was denied", id+1)
		}
	}
	if result := spend(t, l, oldKey(101, 5), now); result.Allowed || !result.Full || result.Limit != 5 || result.Reset <= 0 {
		t.Errorf("the key for which there is no room: %+v", result)
	}
	if result := spend(t, l, oldKey(7, 5), now); !result.Allowed || result.Remaining != 3 {
		t.Errorf("a key that has tokens out: %+v", result)
	}
	if !spend(t, l, oldKey(102, 0), now).Allowed {
		t.Error("a key without a limit was denied")
	}
	// An hour later all are idle, and calls find room for themselves.
	now = now.Add(2 * time.Hour)
	denied := 0
	for id := range apikey.KeyID(100) {
		for !spend(t, l, oldKey(200+id, 5), now).Allowed {
			if denied++; denied > 100 {
				t.Fatalf("no room for key %d, although nobody has tokens out", 200+id)
			}
		}
	}
	if stats := l.Stats(); stats.Keys > 100 || stats.Full != uint64(denied)+1 {
		t.Errorf("%+v after %d denials", stats, denied)
	}
}

// More unclean stops than are listed one by one: no key pays less for that.
func TestManyUncleanStops(t *testing.T) {
	journal := newMemory()
	now := time.Now()
	for range 300 {
		newLimiter(t, limit.Options{Journal: journal, Now: func() time.Time { return now }})
		now = now.Add(time.Second)
	}
	l := newLimiter(t, limit.Options{Journal: journal, Now: func() time.Time { return now }})
	if len(journal.state.Unclean) > 64 {
		t.Errorf("%d unclean stops are listed", len(journal.state.Unclean))
	}
	if got := l.Peek(oldKey(7, 64_000), 1, now).Remaining; got != 0 {
		t.Errorf("300 stops of 1000 calls each, of 64000: %d remain", got)
	}
	if got := l.Peek(oldKey(7, 127), 1, now.Add(time.Second)).Remaining; got != 0 {
		t.Errorf("300 stops of a call each, of 127: %d remain", got)
	}
	if got := l.Peek(oldKey(7, 127), 1, now.Add(62*time.Minute)).Remaining; got != 127 {
		t.Errorf("an hour later %d of 127 remain", got)
	}
	created := &apikey.Key{ID: 8, RateLimitPerHour: 127, CreatedAt: now.Add(time.Second)}
	if got := l.Peek(created, 1, now.Add(2*time.Second)).Remaining; got != 127 {
		t.Errorf("%d of 127 calls remain to a key that was created since", got)
	}
}

// A key that the journal knew pays, even where its creation lies in the future
// and its ring was swept before its first call.
func TestKeyOfTheFuturePays(t *testing.T) {
	journal := newMemory()
	now := time.Now()
	clock := func() time.Time { return now }
	key := &apikey.Key{ID: 7, RateLimitPerHour: 64, CreatedAt: now.Add(24 * time.Hour)}
	l := newLimiter(t, limit.Options{Journal: journal, Now: clock})
	spend(t, l, oldKey(7, 64), now)
	if err := l.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour - time.Minute)
	l = newLimiter(t, limit.Options{Journal: journal, Now: clock})
	now = now.Add(2 * time.Minute)
	l.SweepAll(now)
	if got := l.Peek(key, 1, now).Remaining; got != 63 {
		t.Errorf("%d of 64 calls remain, expected the stop to have cost one", got)
	}
	now = now.Add(time.Hour)
	l.SweepAll(now)
	if keys := l.Stats().Keys; keys != 0 {
		t.Errorf("%d keys are remembered when nothing is owed any more", keys)
	}
}
