package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// touches is a store of nothing but times of last use, which can be made to
// fail or to wait.
type touches struct {
	store.Keys
	mu    sync.Mutex
	times map[apikey.KeyID]time.Time
	calls []int // the size of each change
	err   error
	gate  chan struct{} // where not nil, each call waits for it
}

func (s *touches) TouchKeys(ctx context.Context, used map[apikey.KeyID]time.Time) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return errors.Join(store.ErrUnavailable, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.calls = append(s.calls, len(used))
	if s.times == nil {
		s.times = map[apikey.KeyID]time.Time{}
	}
	for id, at := range used {
		if at.After(s.times[id]) {
			s.times[id] = at
		}
	}
	return nil
}

// changes returns how many there were.
func (s *touches) changes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

func (s *touches) at(id apikey.KeyID) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[id]
}

func (s *touches) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestLastUsedWritesEverySoOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &touches{}
		used := store.NewLastUsed(keys, store.LastUsedOptions{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- used.Run(ctx) }()

		used.Touch(1, noon.Add(999*time.Millisecond))
		used.Touch(1, noon.Add(3*time.Second))
		used.Touch(1, noon.Add(2*time.Second))
		used.Touch(2, noon)
		time.Sleep(store.DefaultLastUsedEvery - time.Nanosecond)
		synctest.Wait()
		if keys.changes() != 0 {
			t.Error("uses were written before the interval was over")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if keys.changes() != 1 || keys.at(1) != noon.Add(3*time.Second) || keys.at(2) != noon {
			t.Errorf("after one interval: %v and %v in %d changes", keys.at(1), keys.at(2), keys.changes())
		}
		time.Sleep(3 * store.DefaultLastUsedEvery)
		synctest.Wait()
		if keys.changes() != 1 {
			t.Errorf("%d changes, though no key was used", keys.changes()-1)
		}
		used.Touch(3, noon)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if waiting := used.Stats().Waiting; waiting != 1 {
			t.Errorf("%d uses wait, want 1", waiting)
		}
		if err := used.Flush(t.Context()); err != nil || keys.at(3) != noon {
			t.Errorf("the last use was not written: %v", err)
		}
	})
}

func TestLastUsedKeepsWhatCouldNotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &touches{err: store.ErrUnavailable}
		var reports []error
		used := store.NewLastUsed(keys, store.LastUsedOptions{Every: time.Second, Report: func(err error) { reports = append(reports, err) }})
		ctx, cancel := context.WithCancel(t.Context())
		go used.Run(ctx)
		used.Touch(1, noon)
		used.Touch(2, noon.Add(time.Minute))
		time.Sleep(2*time.Second + 1)
		synctest.Wait()
		if len(reports) != 2 || !errors.Is(reports[0], store.ErrUnavailable) {
			t.Errorf("reports %v, want two of ErrUnavailable", reports)
		}
		used.Touch(1, noon.Add(time.Hour)) // newer than what waits
		used.Touch(2, noon)                // older
		keys.fail(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		if keys.at(1) != noon.Add(time.Hour) || keys.at(2) != noon.Add(time.Minute) {
			t.Errorf("written %v and %v", keys.at(1), keys.at(2))
		}
		if waiting := used.Stats().Waiting; waiting != 0 {
			t.Errorf("%d uses wait, want none", waiting)
		}
		cancel()
		synctest.Wait()
	})
}

// A use that comes in while older ones are being written is neither lost nor
// overtaken by them.
func TestLastUsedDuringAFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, fails := range map[string]bool{"that succeeds": false, "that fails": true} {
			keys := &touches{gate: make(chan struct{})}
			used := store.NewLastUsed(keys, store.LastUsedOptions{})
			used.Touch(1, noon)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- used.Flush(ctx) }()
			synctest.Wait()
			used.Touch(1, noon.Add(time.Minute))
			if fails {
				cancel()
			} else {
				keys.gate <- struct{}{}
			}
			if err := <-done; (err != nil) != fails {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			keys.gate = nil
			if err := used.Flush(t.Context()); err != nil || keys.times[1] != noon.Add(time.Minute) {
				t.Errorf("%s: %v, written %v", name, err, keys.times)
			}
		}
	})
}

func TestLastUsedFlushEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := &touches{gate: make(chan struct{})}
		used := store.NewLastUsed(keys, store.LastUsedOptions{})
		used.Touch(1, noon)
		first := make(chan error)
		go func() { first <- used.Flush(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := used.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a Flush that waits for another: %v", err)
		}
		close(keys.gate)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestLastUsedStopsWhenTheStoreIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		used := store.NewLastUsed(&touches{err: store.ErrClosed}, store.LastUsedOptions{})
		used.Touch(1, noon)
		if err := used.Run(t.Context()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Run: %v, want ErrClosed", err)
		}
	})
}

func TestLastUsedIsBounded(t *testing.T) {
	keys := &touches{err: store.ErrUnavailable}
	used := store.NewLastUsed(keys, store.LastUsedOptions{Limit: 1000})
	for round := range 3 {
		for id := range apikey.KeyID(5000) {
			used.Touch(id+1, noon.Add(time.Duration(round)*time.Second))
		}
		if err := used.Flush(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	stats := used.Stats()
	if stats.Waiting < 1000 || stats.Waiting > 1032 {
		t.Errorf("%d uses wait, want about 1000", stats.Waiting)
	}
	if want := uint64(3 * (5000 - stats.Waiting)); stats.Dropped != want {
		t.Errorf("%d uses dropped, want %d", stats.Dropped, want)
	}
}

func TestLastUsedWritesInBatches(t *testing.T) {
	keys := &touches{}
	used := store.NewLastUsed(keys, store.LastUsedOptions{})
	for id := range apikey.KeyID(20_000) {
		used.Touch(id+1, noon)
	}
	if err := used.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(keys.times) != 20_000 {
		t.Errorf("%d keys were written", len(keys.times))
	}
	if n := len(keys.calls); n != 5 {
		t.Errorf("%d changes for 20,000 keys, want 5: %v", n, keys.calls)
	}
}

// What one flush could not write does not stand in the way of the next.
func TestLastUsedAfterAFailedBatch(t *testing.T) {
	keys := &touches{err: store.ErrUnavailable}
	used := store.NewLastUsed(keys, store.LastUsedOptions{})
	for _, at := range []time.Time{noon, noon.Add(time.Minute)} {
		for id := range apikey.KeyID(10_000) {
			used.Touch(id+1, at)
		}
		err := used.Flush(t.Context())
		if !errors.Is(err, keys.err) {
			t.Fatal(err)
		}
		keys.err = nil
	}
	for id := range apikey.KeyID(10_000) {
		if at := keys.times[id+1]; at != noon.Add(time.Minute) {
			t.Fatalf("key %d was last used at %v", id+1, at)
		}
	}
}

func TestTouchAllocatesNothing(t *testing.T) {
	used := store.NewLastUsed(&touches{}, store.LastUsedOptions{})
	now := noon
	use := func() {
		now = now.Add(time.Second)
		for id := range apikey.KeyID(1000) {
			used.Touch(id+1, now)
		}
	}
	for range 2 { // both maps of each shard grow once
		use()
		if err := used.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(10, use); n != 0 {
		t.Errorf("%v allocations for 1000 uses", n)
	}
}

func BenchmarkTouch(b *testing.B) {
	used := store.NewLastUsed(&touches{}, store.LastUsedOptions{})
	for id := range apikey.KeyID(1000) {
		used.Touch(id+1, noon)
	}
	b.ReportAllocs()
	id := apikey.KeyID(0)
	for b.Loop() {
		id = id%1000 + 1
		used.Touch(id, noon)
	}
}
