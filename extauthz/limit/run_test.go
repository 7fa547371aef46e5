package limit_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a journal in memory whose saves can be made to wait or to fail.
type disk struct {
	mu    sync.Mutex
	inner *memory
	gate  chan struct{} // where not nil, saves wait until it is closed
	err   error
	saves int
}

func (d *disk) set(gate chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate, d.err = gate, err
}

func (d *disk) State(ctx context.Context) (limit.State, error) { return d.inner.State(ctx) }

func (d *disk) Records(ctx context.Context, fn func(*limit.Record) error) error {
	return d.inner.Records(ctx, fn)
}

func (d *disk) Save(ctx context.Context, batch *limit.Batch) error {
	d.mu.Lock()
	gate, err := d.gate, d.err
	d.saves++
	d.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.inner.Save(ctx, batch)
}

func (d *disk) out(key apikey.KeyID) (tokens uint32, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	record, found := d.inner.records[key]
	for _, due := range record.Due {
		tokens += due.Tokens
	}
	return tokens, found
}

// running runs f in a bubble of its own time, with a limiter that runs.
func running(t *testing.T, o limit.Options, f func(*testing.T, *limit.Limiter, *disk)) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{inner: newMemory()}
		o.Journal = d
		if o.Logger == nil {
			o.Logger = slog.New(slog.DiscardHandler)
		}
		l := newLimiter(t, o)
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		f(t, l, d)
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// oldKey is a key created before any limiter of these tests began.
func oldKey(id apikey.KeyID, n uint32) *apikey.Key { return &apikey.Key{ID: id, RateLimitPerHour: n} }

func TestCallsAreSavedEachSecond(t *testing.T) {
	running(t, limit.Options{}, func(t *testing.T, l *limit.Limiter, d *disk) {
		spend(t, l, oldKey(7, 6400), time.Now())
		time.Sleep(900 * time.Millisecond)
		if _, found := d.out(7); found {
			t.Error("saved at once, although nobody waits")
		}
		time.Sleep(101 * time.Millisecond)
		synctest.Wait()
		if n, _ := d.out(7); n != 1 {
			t.Errorf("after a second %d calls are saved, expected 1", n)
		}
		before := d.saves
		time.Sleep(10 * time.Second)
		if d.saves != before {
			t.Errorf("%d saves of nothing", d.saves-before)
		}
	})
}

func TestCloseSavesExactly(t *testing.T) {
	d := &disk{}
	running(t, limit.Options{}, func(t *testing.T, l *limit.Limiter, inner *disk) {
		d = inner
		for range 7 {
			spend(t, l, oldKey(7, 6400), time.Now())
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Spend(t.Context(), oldKey(7, 6400), time.Now()); !errors.Is(err, limit.ErrClosed) {
			t.Errorf("a call after Close: %v", err)
		}
	})
	if n, _ := d.out(7); n != 7 || d.inner.state.Running {
		t.Errorf("%d calls saved, running: %v; expected 7, not running", n, d.inner.state.Running)
	}
}

// Calls beyond q share a save instead of each making its own.
func TestWaitingCallsShareASave(t *testing.T) {
	running(t, limit.Options{}, func(t *testing.T, l *limit.Limiter, d *disk) {
		gate := make(chan struct{})
		d.set(gate, nil)
		before := d.saves
		var group sync.WaitGroup
		for range 60 {
			group.Go(func() {
				if !spend(t, l, oldKey(7, 60), time.Now()).Allowed {
					t.Error("denied")
				}
			})
		}
		synctest.Wait()
		if waits := l.Stats().Waits; waits != 59 {
			t.Errorf("%d of 60 calls wait, expected all but one", waits)
		}
		close(gate)
		group.Wait()
		if n, _ := d.out(7); n != 60 || d.saves-before > 2 {
			t.Errorf("%d saves for %d calls, expected two for all 60", d.saves-before, n)
		}
	})
}

// A disk that does not answer for 30 seconds: no call below q fails or waits,
// of that key or another; those beyond fail after 200 ms, or when their own
// deadline comes; afterwards all is well by itself.
func TestStalledSave(t *testing.T) {
	running(t, limit.Options{}, func(t *testing.T, l *limit.Limiter, d *disk) {
		gate := make(chan struct{})
		d.set(gate, nil)
		began := time.Now()
		for second := range 30 {
			for range 2 {
				if !spend(t, l, oldKey(7, 6400), time.Now()).Allowed {
					t.Fatal("denied")
				}
				if !spend(t, l, oldKey(apikey.KeyID(1000+second), 1), time.Now()).Allowed {
					break // a key with a limit of 1 has no second call
				}
			}
			time.Sleep(time.Second)
		}
		if waited := time.Since(began); waited != 30*time.Second {
			t.Fatalf("calls below q took %v", waited-30*time.Second)
		}
		for range 40 {
			spend(t, l, oldKey(7, 6400), time.Now())
		}
		tests := []struct {
			name     string
			deadline time.Duration
			want     time.Duration
		}{{"without a deadline", 0, 200 * time.Millisecond}, {"with one", 3 * time.Second, 3 * time.Second}, {"with a short one", time.Millisecond, time.Millisecond}}
		for _, tt := range tests {
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if tt.deadline > 0 {
				ctx, cancel = context.WithTimeout(ctx, tt.deadline)
			}
			before := time.Now()
			_, err := l.Spend(ctx, oldKey(7, 6400), time.Now())
			if !errors.Is(err, limit.ErrUnavailable) || time.Since(before) != tt.want {
				t.Errorf("the call beyond q, %s: %v after %v, expected it to fail after %v", tt.name, err, time.Since(before), tt.want)
			}
			cancel()
		}
		d.set(nil, nil)
		close(gate)
		if !spend(t, l, oldKey(7, 6400), time.Now()).Allowed {
			t.Error("denied after the disk answered again")
		}
		// 100 + 4 calls were spent: those that failed, too.
		if result := l.Peek(oldKey(7, 6400), time.Now()); result.Remaining != 6400-104 {
			t.Errorf("%d calls remain, expected %d", result.Remaining, 6400-104)
		}
	})
}

// A disk that is full: everything is kept for later, the failure is logged
// once, and its end, too.
func TestFailingSave(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	running(t, limit.Options{Logger: logger}, func(t *testing.T, l *limit.Limiter, d *disk) {
		d.set(nil, errors.New("the disk is full"))
		for range 50 {
			spend(t, l, oldKey(7, 6400), time.Now())
		}
		time.Sleep(time.Minute)
		stats := l.Stats()
		if stats.SaveErrors < 30 || stats.SaveErrors > 120 || !stats.SaveFailing {
			t.Errorf("after a minute: %+v; expected about one failure a second", stats)
		}
		d.set(nil, nil)
		time.Sleep(2 * time.Second)
		if n, _ := d.out(7); n != 50 || l.Stats().SaveFailing {
			t.Errorf("%d calls were saved, expected 50", n)
		}
	})
	if got := strings.Count(log.String(), "\n"); got != 2 || !strings.Contains(log.String(), "the disk is full") || !strings.Contains(log.String(), "saved again") {
		t.Errorf("logged: %s", log.String())
	}
}

// Fast never waits and never makes a key pay.
func TestFastMode(t *testing.T) {
	running(t, limit.Options{Mode: limit.Fast}, func(t *testing.T, l *limit.Limiter, d *disk) {
		d.set(nil, errors.New("the disk is full"))
		for i := range 64 {
			if !spend(t, l, oldKey(7, 64), time.Now()).Allowed {
				t.Fatalf("call %d was denied", i+1)
			}
		}
		d.set(nil, nil)
		time.Sleep(time.Hour)
		again := newLimiter(t, limit.Options{Journal: d, Mode: limit.Fast})
		if stats := again.Stats(); stats.Unclean != 1 {
			t.Fatalf("%d unclean stops, expected 1", stats.Unclean)
		}
		if result := again.Peek(oldKey(8, 64), time.Now()); result.Remaining != 64 {
			t.Errorf("after an unclean stop %d of 64 calls remain", result.Remaining)
		}
	})
}

// Keys whose tokens are all back leave the memory, and the journal.
func TestIdleKeysAreForgotten(t *testing.T) {
	running(t, limit.Options{}, func(t *testing.T, l *limit.Limiter, d *disk) {
		for id := range apikey.KeyID(500) {
			spend(t, l, oldKey(id+1, 6400), time.Now())
		}
		time.Sleep(59 * time.Minute)
		spend(t, l, oldKey(7, 6400), time.Now())
		time.Sleep(5 * time.Minute)
		if keys := l.Stats().Keys; keys != 1 || len(d.inner.records) != 1 {
			t.Errorf("%d keys in memory and %d in the journal, expected the one in use", keys, len(d.inner.records))
		}
	})
}

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
	if got := l.Peek(oldKey(7, 64_000), now).Remaining; got != 0 {
		t.Errorf("300 stops of 1000 calls each, of 64000: %d remain", got)
	}
	if got := l.Peek(oldKey(7, 127), now.Add(time.Second)).Remaining; got != 0 {
		t.Errorf("300 stops of a call each, of 127: %d remain", got)
	}
	if got := l.Peek(oldKey(7, 127), now.Add(62*time.Minute)).Remaining; got != 127 {
		t.Errorf("an hour later %d of 127 remain", got)
	}
	created := &apikey.Key{ID: 8, RateLimitPerHour: 127, CreatedAt: now.Add(time.Second)}
	if got := l.Peek(created, now.Add(2*time.Second)).Remaining; got != 127 {
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
	if got := l.Peek(key, now).Remaining; got != 63 {
		t.Errorf("%d of 64 calls remain, expected the stop to have cost one", got)
	}
	now = now.Add(time.Hour)
	l.SweepAll(now)
	if keys := l.Stats().Keys; keys != 0 {
		t.Errorf("%d keys are remembered when nothing is owed any more", keys)
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for name, o := range map[string]limit.Options{
		"negative capacity": {Capacity: -1}, "negative interval": {Interval: -1}, "negative wait": {Wait: -1}, "unknown mode": {Mode: 7},
	} {
		if _, err := limit.New(t.Context(), o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
