package shared_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a backend inside the process.
type memory struct {
	delay atomic.Int64 // nanoseconds that each answer takes
	away  atomic.Bool

	mu      sync.Mutex
	windows map[netip.Prefix]*window
	changes []netip.Prefix // by number, from 1
	heard   map[uint64]uint64
	batches int
}

type window struct {
	opened, blocked time.Time
	failures        uint32
	reason          apikey.Reason
}

var errAway = errors.New("nobody is there")

func (m *memory) ask(ctx context.Context) error {
	time.Sleep(time.Duration(m.delay.Load()))
	if m.away.Load() {
		return errAway
	}
	return ctx.Err()
}

func (m *memory) Failed(ctx context.Context, failures []shared.Failure, answers []block.Remote) error {
	if err := m.ask(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches++
	now := time.Now()
	for i, f := range failures {
		w := m.windows[f.Prefix]
		if w == nil || now.Sub(w.opened) >= f.Window {
			w = &window{opened: now}
			m.windows[f.Prefix] = w
		}
		w.failures++
		w.reason = f.Reason
		if w.failures >= f.Threshold && w.blocked.IsZero() {
			w.blocked = now
			m.changes = append(m.changes, f.Prefix)
		}
		answers[i] = w.remote(f.Prefix, now)
	}
	return nil
}

func (w *window) remote(prefix netip.Prefix, now time.Time) block.Remote {
	r := block.Remote{Prefix: prefix, Age: now.Sub(w.opened), Failures: w.failures, Reason: w.reason, Blocked: !w.blocked.IsZero()}
	if r.Blocked {
		r.BlockedAgo = now.Sub(w.blocked)
	}
	return r
}

func (m *memory) Unblock(ctx context.Context, prefix netip.Prefix) (bool, error) {
	if err := m.ask(ctx); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.windows[prefix]
	delete(m.windows, prefix)
	m.changes = append(m.changes, prefix)
	return w != nil && !w.blocked.IsZero(), nil
}

func (m *memory) Changes(ctx context.Context, replica, after uint64) (shared.Changes, error) {
	if err := m.ask(ctx); err != nil {
		return shared.Changes{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard[replica] = after
	last := uint64(len(m.changes))
	c := shared.Changes{Number: min(last, after+3), Last: last} // few at a time
	if after > last {
		return c, nil
	}
	for _, prefix := range m.changes[after:c.Number] {
		if w := m.windows[prefix]; w != nil {
			c.Blocked = append(c.Blocked, w.remote(prefix, time.Now()))
		} else {
			c.Unblocked = append(c.Unblocked, prefix)
		}
	}
	return c, nil
}

func (m *memory) Heard(ctx context.Context) (all, last uint64, err error) {
	if err := m.ask(ctx); err != nil {
		return 0, 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last = uint64(len(m.changes))
	all = last
	for _, heard := range m.heard {
		all = min(all, heard)
	}
	return all, last, nil
}

// Listen hears of nothing: that is the worst case.
func (m *memory) Listen(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

// running runs tables over one backend until f returns.
func running(t *testing.T, count int, logger *slog.Logger, f func(t *testing.T, m *memory, tables []*shared.Table)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{windows: map[netip.Prefix]*window{}, heard: map[uint64]uint64{}}
		var group sync.WaitGroup
		var tables []*shared.Table
		for range count {
			local, err := block.New(t.Context(), block.Options{Capacity: 256 * 64, Never: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
			if err != nil {
				t.Fatal(err)
			}
			table, err := shared.New(shared.Options{Table: local, Backend: m, Logger: logger})
			if err != nil {
				t.Fatal(err)
			}
			tables = append(tables, table)
			group.Go(func() {
				if err := table.Run(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		f(t, m, tables)
		for _, table := range tables {
			table.Close()
		}
		group.Wait()
	})
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func four(last byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, last}) }

// Without any message others hear of blocks and unblocks within a second.
func TestOthersHearWithinASecond(t *testing.T) {
	running(t, 3, quiet, func(t *testing.T, _ *memory, tables []*shared.Table) {
		for last := range byte(10) {
			for i := range 10 {
				blocked := tables[i%2].Failed(four(last), apikey.ReasonOrigin, time.Now())
				if blocked != (i == 9) {
					t.Fatalf("failure %d: blocked now: %v", i+1, blocked)
				}
			}
		}
		time.Sleep(time.Second)
		if got := len(tables[2].List(time.Now())); got != 10 {
			t.Errorf("the third replica knows of %d blocks, expected 10", got)
		}
		if was, err := tables[2].Unblock(t.Context(), four(3), time.Now()); !was || err != nil {
			t.Errorf("unblocking: %v, %v", was, err)
		}
		time.Sleep(time.Second)
		for i, table := range tables {
			if _, blocked := table.Blocked(four(3), time.Now()); blocked {
				t.Errorf("replica %d still blocks it", i)
			}
			if left, blocked := table.Blocked(four(4), time.Now()); !blocked || left > 5*time.Minute-2*time.Second {
				t.Errorf("replica %d: blocked %v for %v", i, blocked, left)
			}
		}
		time.Sleep(5 * time.Minute)
		for i, table := range tables {
			if got := len(table.List(time.Now())); got != 0 {
				t.Errorf("replica %d blocks %d addresses after all windows closed", i, got)
			}
		}
	})
}

// A backend that is slow, or away, costs the first failure 50 ms at most, and
// nothing is let through for it.
func TestBackendSlowOrAway(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(m *memory)
		most time.Duration // that ten failures take
	}{
		{"slow", func(m *memory) { m.delay.Store(int64(200 * time.Millisecond)) }, 50 * time.Millisecond},
		{"hanging", func(m *memory) { m.delay.Store(int64(time.Hour)) }, 50 * time.Millisecond},
		{"away", func(m *memory) { m.away.Store(true) }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log strings.Builder
			running(t, 1, slog.New(slog.NewTextHandler(&log, nil)), func(t *testing.T, m *memory, tables []*shared.Table) {
				tt.set(m)
				began := time.Now()
				for i := range 10 {
					if blocked := tables[0].Failed(four(1), apikey.ReasonOrigin, time.Now()); blocked != (i == 9) {
						t.Errorf("failure %d: blocked now: %v", i+1, blocked)
					}
				}
				if took := time.Since(began); took > tt.most {
					t.Errorf("ten failures took %v, expected at most %v", took, tt.most)
				}
				if stats := tables[0].Stats(); stats.Alone != 10 {
					t.Errorf("%+v", stats)
				}
				m.away.Store(false)
				m.delay.Store(0)
				time.Sleep(2 * time.Hour)
				told := tables[0].Stats().Told
				tables[0].Failed(four(2), apikey.ReasonOrigin, time.Now()) // is looked at
				synctest.Wait()
				tables[0].Failed(four(2), apikey.ReasonOrigin, time.Now())
				if stats := tables[0].Stats(); stats.Failing || stats.Told <= told {
					t.Errorf("when all is well again: %+v", stats)
				}
			})
			if tt.name == "away" && strings.Count(log.String(), "\n") != 2 {
				t.Errorf("logged: %s", log.String())
			}
		})
	}
}

// What others saw is known here, too, where the answer came too late.
func TestLateAnswersAreNotLost(t *testing.T) {
	running(t, 2, quiet, func(t *testing.T, m *memory, tables []*shared.Table) {
		for range 5 {
			tables[1].Failed(four(1), apikey.ReasonOrigin, time.Now())
		}
		m.delay.Store(int64(200 * time.Millisecond))
		tables[0].Failed(four(1), apikey.ReasonOrigin, time.Now())
		time.Sleep(time.Second)
		m.delay.Store(0)
		m.away.Store(true)
		for i := range 4 {
			if blocked := tables[0].Failed(four(1), apikey.ReasonOrigin, time.Now()); blocked != (i == 3) {
				t.Errorf("failure %d: blocked now: %v", i+7, blocked)
			}
		}
		if stats := tables[0].Stats(); stats.Late == 0 {
			t.Errorf("%+v", stats)
		}
	})
}

// Failures that wait are told together.
func TestFailuresAreToldTogether(t *testing.T) {
	running(t, 1, quiet, func(t *testing.T, m *memory, tables []*shared.Table) {
		m.delay.Store(int64(10 * time.Millisecond))
		var group sync.WaitGroup
		for range 200 {
			group.Go(func() { tables[0].Failed(four(1), apikey.ReasonOrigin, time.Now()) })
		}
		group.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.batches > 2 || m.windows[block.PrefixOf(four(1))].failures != 200 {
			t.Errorf("%d exchanges for %d failures", m.batches, m.windows[block.PrefixOf(four(1))].failures)
		}
	})
}

func TestNotToldOf(t *testing.T) {
	running(t, 1, quiet, func(t *testing.T, m *memory, tables []*shared.Table) {
		for range 20 {
			tables[0].Failed(netip.Addr{}, apikey.ReasonOrigin, time.Now())
			tables[0].Failed(netip.MustParseAddr("10.1.2.3"), apikey.ReasonOrigin, time.Now())
		}
		if was, err := tables[0].Unblock(t.Context(), netip.Addr{}, time.Now()); was || err != nil {
			t.Errorf("unblocking no address: %v, %v", was, err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.batches > 0 || len(tables[0].List(time.Now())) > 0 {
			t.Errorf("%d exchanges, %v", m.batches, tables[0].List(time.Now()))
		}
	})
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	local, err := block.New(t.Context(), block.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]shared.Options{
		"no table": {Backend: &memory{}}, "no backend": {Table: local}, "negative wait": {Table: local, Backend: &memory{}, Wait: -1},
		"negative window": {Table: local, Backend: &memory{}, Window: -1}, "negative threshold": {Table: local, Backend: &memory{}, Threshold: -1},
	} {
		if _, err := shared.New(o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
