package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func wantStats(t *testing.T, c *store.Cache, want store.CacheStats) {
	t.Helper()
	if got := c.Stats(); got != want {
		t.Errorf("stats\n got %+v\nwant %+v", got, want)
	}
}

func TestCacheReadsOnce(t *testing.T) {
	inner := newSlowKeys()
	cache := store.NewCache(inner, store.CacheOptions{})
	create(t, cache, 1)
	for range 10 {
		if !find(t, cache, 1) || find(t, cache, 2) {
			t.Fatal("the wrong keys are found")
		}
	}
	wantStats(t, cache, store.CacheStats{Hits: 9, AbsentHits: 9, Misses: 2, Keys: 1, Absent: 1})
}

func TestSearchesShareALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		create(t, cache, 1)
		release := inner.hold("before")
		results := make(chan bool, 10)
		for range 10 {
			go func() { results <- find(t, cache, 1) }()
		}
		synctest.Wait()
		release()
		for range 10 {
			if !<-results {
				t.Error("a search did not find the key")
			}
		}
		wantStats(t, cache, store.CacheStats{Misses: 1, Shared: 9, Keys: 1})
	})
}

func TestOneSearchLeavesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		create(t, cache, 1)
		release := inner.hold("before")
		first, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := cache.FindKey(first, hashOf(1))
			left <- err
		}()
		synctest.Wait()
		stayed := make(chan bool, 1)
		go func() { stayed <- find(t, cache, 1) }()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the search that left: %v", err)
		}
		synctest.Wait()
		release()
		if !<-stayed {
			t.Error("the search that stayed failed with the one that left")
		}
	})
}

// A load that nobody waits for ends, and the next search begins its own.
func TestAbandonedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		create(t, cache, 1)
		next, ended := make(chan struct{}), make(chan struct{})
		var first atomic.Bool
		inner.findHeld = func(ctx context.Context, _ string) {
			if first.CompareAndSwap(false, true) {
				<-ctx.Done()
				<-next
				close(ended)
			}
		}
		ctx, leave := context.WithCancel(t.Context())
		go cache.FindKey(ctx, hashOf(1))
		synctest.Wait()
		leave()
		synctest.Wait()
		found := make(chan bool)
		go func() { found <- find(t, cache, 1) }()
		synctest.Wait()
		close(next)
		if <-ended; !<-found {
			t.Error("a search that began before it ended failed with it")
		}
		if !find(t, cache, 1) {
			t.Error("the next search failed with the abandoned one")
		}
	})
}

func TestCacheKeepsNoFailure(t *testing.T) {
	inner := newSlowKeys()
	cache := store.NewCache(inner, store.CacheOptions{})
	create(t, cache, 1)
	inner.closed = true
	if _, err := cache.FindKey(t.Context(), hashOf(1)); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("got %v", err)
	}
	inner.closed = false
	if !find(t, cache, 1) {
		t.Error("a failure was kept")
	}
}

// Whoever tries keys at random evicts none that exists, and what is kept of
// either stays within bounds.
func TestCacheUnderAScan(t *testing.T) {
	inner := newSlowKeys()
	cache := store.NewCache(inner, store.CacheOptions{Keys: 1000, Absent: 500})
	for n := range 300 {
		create(t, cache, n)
		find(t, cache, n)
	}
	for n := range 20_000 {
		find(t, cache, 1_000_000+n)
	}
	before := inner.finds.Load()
	for n := range 300 {
		if !find(t, cache, n) {
			t.Fatal("a key is gone")
		}
	}
	if loads := inner.finds.Load() - before; loads != 0 {
		t.Errorf("%d of 300 keys were evicted", loads)
	}
	stats := cache.Stats()
	if stats.Evictions != 0 || stats.Absent > 512 || stats.Absent < 400 {
		t.Errorf("%+v", stats)
	}
	for n := range 5000 {
		create(t, inner, 2_000_000+n)
		find(t, cache, 2_000_000+n)
	}
	if stats := cache.Stats(); stats.Keys > 1008 || stats.Keys < 900 || stats.Evictions != uint64(5300-stats.Keys) {
		t.Errorf("%+v", stats)
	}
}

func TestCloseEndsSearches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		create(t, cache, 1)
		inner.hold("before")
		done := make(chan error, 1)
		go func() {
			_, err := cache.FindKey(context.Background(), hashOf(1))
			done <- err
		}()
		synctest.Wait()
		if err := cache.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, store.ErrClosed) {
			t.Errorf("a search under way: %v", err)
		}
		if _, err := cache.FindKey(context.Background(), hashOf(1)); !errors.Is(err, store.ErrClosed) {
			t.Errorf("a later search: %v", err)
		}
	})
}

// What a load read before the store was closed is not found afterwards.
func TestNoLoadOutlivesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		create(t, cache, 1)
		inner.hold("after")
		go cache.FindKey(context.Background(), hashOf(1))
		synctest.Wait()
		if err := cache.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := cache.FindKey(context.Background(), hashOf(1)); !errors.Is(err, store.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

// Searches share no load while a change may come to be made between them.
func TestNoSharingInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newSlowKeys()
		cache := store.NewCache(inner, store.CacheOptions{})
		create(t, cache, 1)
		inner.changed = func(string) error { return store.ErrUnavailable }
		if err := deleteOne(cache); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		release := inner.hold("after")
		go find(t, cache, 1)
		synctest.Wait()
		inner.changed = nil
		if err := inner.change(nil, func() { clear(inner.keys) }); err != nil { // the late commit
			t.Fatal(err)
		}
		if find(t, cache, 1) {
			t.Error("a search shared a load that read before the deletion was made")
		}
		release()
		synctest.Wait()
	})
}

func TestHitsAllocateNothing(t *testing.T) {
	cache := store.NewCache(newSlowKeys(), store.CacheOptions{})
	create(t, cache, 1)
	find(t, cache, 1)
	find(t, cache, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for n, name := range map[int]string{1: "key", 2: "absent"} {
		hash := hashOf(n)
		if n := testing.AllocsPerRun(100, func() { _, _ = cache.FindKey(ctx, hash) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Everything at once, for the race detector and the promise: a search that
// begins after a change was answered sees it.
func TestCacheUnderChanges(t *testing.T) {
	cache := store.NewCache(newSlowKeys(), store.CacheOptions{Keys: 4, Absent: 4})
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for round := range 500 {
				n := worker // its own key, and those of others to read
				key := create(t, cache, n)
				if !find(t, cache, n) {
					t.Error("a created key is not found")
				}
				find(t, cache, (n+round)%4)
				renewed := 4 + worker
				_, err := cache.UpdateKey(context.Background(), 0, key.ID, func(key *apikey.Key) error {
					key.PreviousHash, key.PreviousUntil = key.Hash, time.Unix(1e9, 0)
					key.Hash, key.Name = hashOf(renewed), "rotated"
					return nil
				}, by)
				if err != nil {
					t.Error(err)
				}
				if old, present := state(t, cache, n), state(t, cache, renewed); old != "rotated" || present != "rotated" {
					t.Errorf("after a rotation found %s and %s", old, present)
				}
				if _, err := cache.DeleteKey(context.Background(), 0, key.ID, by); err != nil {
					t.Error(err)
				}
				if state(t, cache, n) != "absent" || state(t, cache, renewed) != "absent" {
					t.Error("a deleted key is found")
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkFindKeyHot(b *testing.B) {
	const keys = 10_000
	cache := store.NewCache(newSlowKeys(), store.CacheOptions{Keys: 2 * keys})
	hashes := make([]apikey.Hash, keys)
	for n := range keys {
		hashes[n] = create(b, cache, n).Hash
		find(b, cache, n)
	}
	b.Run("one goroutine", func(b *testing.B) {
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n++
			_, _ = cache.FindKey(b.Context(), hashes[n%keys])
		}
	})
	b.Run(fmt.Sprintf("%d at once", runtime.GOMAXPROCS(0)), func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for n := 0; pb.Next(); n++ {
				_, _ = cache.FindKey(b.Context(), hashes[n%keys])
			}
		})
	})
}
