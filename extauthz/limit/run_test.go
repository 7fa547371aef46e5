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

// counts returns how many saves there were and how many records there are.
func (d *disk) counts() (saves, records int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.saves, len(d.inner.records)
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
		before, _ := d.counts()
		time.Sleep(10 * time.Second)
		if after, _ := d.counts(); after != before {
			t.Errorf("%d saves of nothing", after-before)
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
		if _, err := l.Spend(t.Context(), oldKey(7, 6400), 1, time.Now()); !errors.Is(err, limit.ErrClosed) {
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
		before, _ := d.counts()
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
		saves, _ := d.counts()
		if n, _ := d.out(7); n != 60 || saves-before > 2 {
			t.Errorf("%d saves for %d calls, expected two for all 60", saves-before, n)
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
			_, err := l.Spend(ctx, oldKey(7, 6400), 1, time.Now())
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
		if result := l.Peek(oldKey(7, 6400), 1, time.Now()); result.Remaining != 6400-104 {
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
		if result := again.Peek(oldKey(8, 64), 1, time.Now()); result.Remaining != 64 {
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
		keys := l.Stats().Keys
		if _, records := d.counts(); keys != 1 || records != 1 {
			t.Errorf("%d keys in memory and %d in the journal, expected the one in use", keys, records)
		}
	})
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
