package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/sha256"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

func benchHash(n int) apikey.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// benchKeys is how many keys most benchmarks have: many, but not where they are
// only tried.
func benchKeys() int {
	if testing.Short() {
		return 10_000
	}
	return 100_000
}

// withKeys returns the path of a store with so many keys of ordinary size, of
// a hundred users.
func withKeys(tb testing.TB, keys int) string {
	tb.Helper()
	origin, err := apikey.ParseOriginPattern("https://app.example.io")
	must(tb, err)
	path := filepath.Join(tb.TempDir(), "keys.db")
	s, err := bolt.Open(context.Background(), path, bolt.Options{CommitTimeout: time.Hour})
	must(tb, err)
	const users = 100
	read, write := io.Pipe()
	go func() {
		w := store.NewExportWriter(write, false)
		for u := range users {
			_ = w.User(&store.User{ID: apikey.UserID(u + 1), Name: fmt.Sprintf("user%d", u), CreatedAt: noon})
		}
		for k := range keys {
			_ = w.Key(&apikey.Key{
				ID: apikey.KeyID(k + 1), Hash: benchHash(k), Hint: "tk_…a1B2", Name: fmt.Sprintf("my-app-%d", k), Owner: apikey.UserID(k%users + 1),
				OwnerName: fmt.Sprintf("user%d", k%users), AllowedOrigins: []apikey.OriginPattern{origin}, RateLimitPerHour: 5000,
				CreatedAt: noon, LastUsedAt: noon,
			})
		}
		_ = write.CloseWithError(w.Close(store.LastIDs{User: users, Key: apikey.KeyID(keys)}))
	}()
	_, err = s.Import(context.Background(), read, by)
	must(tb, err)
	must(tb, s.Close())
	return path
}

func BenchmarkFindKey(b *testing.B) {
	keys := benchKeys()
	s := openAt(b, withKeys(b, keys))
	cache := store.NewCache(s, store.CacheOptions{Keys: 2 * keys, Absent: 1000})
	ctx := b.Context()
	b.Run("hot", func(b *testing.B) {
		for n := range keys {
			_, err := cache.FindKey(ctx, benchHash(n))
			must(b, err)
		}
		hashes := make([]apikey.Hash, 1024)
		for n := range hashes {
			hashes[n] = benchHash(rand.IntN(keys))
		}
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			n++
			if _, err := cache.FindKey(ctx, hashes[n%len(hashes)]); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, s := range map[string]store.Store{"cold": s, "cold, through a cache": store.NewCache(s, store.CacheOptions{Keys: 1, Absent: 1})} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.FindKey(ctx, benchHash(rand.IntN(keys))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("absent, through a cache", func(b *testing.B) {
		b.ReportAllocs()
		n := keys
		for b.Loop() {
			n++
			_, _ = cache.FindKey(ctx, benchHash(n))
		}
	})
}

// BenchmarkCreateKey syncs each key to the disk.
func BenchmarkCreateKey(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprintf("%d at once", workers), func(b *testing.B) {
			dir, err := os.MkdirTemp("/var/tmp", "bench") // a disk, where TMPDIR may be memory
			must(b, err)
			defer os.RemoveAll(dir)
			s := openAt(b, filepath.Join(dir, "keys.db"))
			user, err := s.CreateUser(b.Context(), &store.User{Name: "ada"}, by)
			must(b, err)
			next := make(chan int)
			var all sync.WaitGroup
			for range workers {
				all.Go(func() {
					for n := range next {
						if _, err := s.CreateKey(context.Background(), &apikey.Key{Hash: benchHash(n), Name: "key", Owner: user.ID, CreatedAt: noon}, by); err != nil {
							b.Error(err)
						}
					}
				})
			}
			n := 0
			for b.Loop() {
				n++
				next <- n
			}
			close(next)
			all.Wait()
		})
	}
}

func BenchmarkListKeys(b *testing.B) {
	s := openAt(b, withKeys(b, benchKeys()))
	for name, owner := range map[string]apikey.UserID{"of all users": 0, "of one user of 100": 7} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.ListKeys(b.Context(), owner); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTouchKeys(b *testing.B) {
	keys := benchKeys()
	s := openAt(b, withKeys(b, keys))
	at := noon
	for b.Loop() {
		at = at.Add(time.Second)
		used := map[apikey.KeyID]time.Time{}
		for range 4096 {
			used[apikey.KeyID(rand.IntN(keys)+1)] = at
		}
		must(b, s.TouchKeys(b.Context(), used))
	}
}

// BenchmarkMillion opens a store of a million keys, and reports the memory of
// the process once most were looked for.
func BenchmarkMillion(b *testing.B) {
	if testing.Short() {
		b.Skip("a million keys take a while")
	}
	const keys = 1_000_000
	start := time.Now()
	path := withKeys(b, keys)
	b.Logf("imported in %v", time.Since(start))
	info, err := os.Stat(path)
	must(b, err)
	b.Logf("file of %d MiB", info.Size()>>20)
	_, compact, err := bolt.Compact(b.Context(), path, bolt.Options{})
	must(b, err)
	b.Logf("compacted to %d MiB", compact>>20)
	debug.FreeOSMemory() // what importing took is none of what serving takes
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := bolt.Open(b.Context(), path, bolt.Options{})
			must(b, err)
			must(b, s.Close())
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			_, err := bolt.Verify(b.Context(), path, bolt.Options{})
			must(b, err)
		}
	})
	b.Run("find", func(b *testing.B) {
		s := openAt(b, path)
		cache := store.NewCache(s, store.CacheOptions{})
		for range 2_000_000 {
			_, err := cache.FindKey(b.Context(), benchHash(rand.IntN(keys)))
			must(b, err)
		}
		b.Logf("%+v", cache.Stats())
		b.Log(memory(b))
		b.ReportAllocs()
		for b.Loop() {
			_, err := cache.FindKey(b.Context(), benchHash(rand.IntN(keys)))
			must(b, err)
		}
	})
}

// memory returns what the system says this process uses.
func memory(b *testing.B) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	var lines []string
	for line := range bytes.Lines(status) {
		if bytes.HasPrefix(line, []byte("Rss")) || bytes.HasPrefix(line, []byte("VmRSS")) {
			lines = append(lines, strings.Join(strings.Fields(string(line)), " "))
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return fmt.Sprintf("%s; heap in use %d MiB", strings.Join(lines, ", "), m.HeapInuse>>20)
}

// withEvents returns the path of a store with so many events.
func withEvents(tb testing.TB, events int) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "keys.db")
	s, err := bolt.Open(context.Background(), path, bolt.Options{CommitTimeout: time.Hour})
	must(tb, err)
	read, write := io.Pipe()
	go func() {
		w := store.NewExportWriter(write, false)
		for n := range events {
			_ = w.Event(&store.Event{
				ID: uint64(n + 1), By: store.Actor{Kind: store.ActorUser, User: apikey.UserID(n % 9), Name: fmt.Sprintf("user%d", n%9), At: noon},
				Action: store.ActionUpdateKey, TargetKind: store.TargetKey, TargetID: int64(n), TargetName: "my-app-prod",
				Changes: []store.Change{{Field: "rate_limit_per_hour", From: "1000", To: "5000"}, {Field: "allowed_origins", From: "[]", To: `["https://app.example.io"]`}},
			})
		}
		_ = write.CloseWithError(w.Close(store.LastIDs{Event: uint64(events)}))
	}()
	_, err = s.Import(context.Background(), read, by)
	must(tb, err)
	must(tb, s.Close())
	return path
}

// BenchmarkSearchKeys searches 100,000 keys, and reports what the index takes.
func BenchmarkSearchKeys(b *testing.B) {
	const keys = 100_000
	s := openAt(b, withKeys(b, keys))
	index := store.NewIndex(s)
	before := heap()
	start := time.Now()
	page, err := index.SearchKeys(b.Context(), store.KeyFilter{Now: noon})
	must(b, err)
	if page.Total != keys {
		b.Fatalf("%d keys", page.Total)
	}
	built := time.Since(start)
	b.Logf("built in %v, %d bytes a key", built, (heap()-before)/keys)
	for _, c := range []struct {
		name   string
		filter store.KeyFilter
	}{
		{"first page of all", store.KeyFilter{Limit: 50}},
		{"common text", store.KeyFilter{Search: "MY-APP", Limit: 50}},
		{"rare text", store.KeyFilter{Search: "app-77777"}},
		{"text of none", store.KeyFilter{Search: "nothing like it"}},
		{"state", store.KeyFilter{State: store.StateIdle, Now: noon.Add(1000 * time.Hour)}},
		{"one owner's", store.KeyFilter{Owner: 7, Search: "77"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := index.SearchKeys(b.Context(), c.filter); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("without the index", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.SearchKeys(b.Context(), store.KeyFilter{Search: "app-77777"}); err != nil {
				b.Fatal(err)
			}
		}
	})
	runtime.KeepAlive(index)
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what pools held is gone only after two
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
