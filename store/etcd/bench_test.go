package etcd_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"github.com/tokenkithq/authz/store/etcd"
)

// withKeys loads so many keys of ordinary size, of a hundred users.
func withKeys(b *testing.B, o etcd.Options, keys int) {
	b.Helper()
	origin, err := apikey.ParseOriginPattern("https://app.example.io")
	must(b, err)
	file, err := bolt.Open(b.Context(), filepath.Join(b.TempDir(), "keys.db"), bolt.Options{CommitTimeout: time.Hour})
	must(b, err)
	defer file.Close()
	const users = 100
	read, write := io.Pipe()
	go func() {
		w := store.NewExportWriter(write, false)
		for u := range users {
			_ = w.User(&store.User{ID: apikey.UserID(u + 1), Name: fmt.Sprintf("user%d", u), CreatedAt: noon})
		}
		for k := range keys {
			_ = w.Key(&apikey.Key{
				ID: apikey.KeyID(k + 1), Hash: hashOf(k), Hint: "tk_…a1B2", Name: fmt.Sprintf("my-app-%d", k), Owner: apikey.UserID(k%users + 1),
				OwnerName: fmt.Sprintf("user%d", k%users), AllowedOrigins: []apikey.OriginPattern{origin}, RateLimitPerHour: 5000,
				CreatedAt: noon, LastUsedAt: noon,
			})
		}
		_ = write.CloseWithError(w.Close(store.LastIDs{User: users, Key: apikey.KeyID(keys)}))
	}()
	_, err = file.Import(context.Background(), read, by)
	must(b, err)
	start := time.Now()
	_, err = etcd.Load(b.Context(), o, file, by)
	must(b, err)
	b.Logf("loaded %d keys in %v", keys, time.Since(start))
}

func heap() uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// processor reports, when what it returns is called, the processor time of this
// process for each round: others may have kept the machine busy.
func processor(b *testing.B) func() {
	used := func() (total int64) {
		var u syscall.Rusage
		must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkReplica reports what a replica takes that holds many keys, and how
// fast it finds and changes them.
func BenchmarkReplica(b *testing.B) {
	keys := 1_000_000
	if testing.Short() {
		keys = 100_000
	}
	cluster := etcdtest.Start(b, 1)
	options := etcd.Options{Endpoints: cluster.Endpoints(), DialTimeout: time.Minute}
	withKeys(b, options, keys)
	before, start := heap(), time.Now()
	r := open(b, options)
	b.Logf("opened in %v", time.Since(start))
	b.Logf("%d bytes a key", (heap()-before)/uint64(keys))
	ctx := b.Context()
	b.Run("find, cached", func(b *testing.B) {
		b.ReportAllocs()
		hashes := make([]apikey.Hash, 1000)
		for n := range hashes {
			hashes[n] = hashOf(n)
		}
		defer processor(b)()
		for n := 0; b.Loop(); n++ {
			_, err := r.FindKey(ctx, hashes[n%1000])
			must(b, err)
		}
	})
	b.Run("find, not cached", func(b *testing.B) {
		b.ReportAllocs()
		defer processor(b)()
		for b.Loop() {
			_, err := r.etcd.FindKey(ctx, hashOf(rand.IntN(keys)))
			must(b, err)
		}
	})
	b.Run("update", func(b *testing.B) {
		defer processor(b)()
		for n := 0; b.Loop(); n++ {
			_, err := r.UpdateKey(ctx, 0, apikey.KeyID(rand.IntN(keys)+1), func(key *apikey.Key) error {
				key.Notes = fmt.Sprint(n)
				return nil
			}, by)
			must(b, err)
		}
	})
	b.Run("touch 4096", func(b *testing.B) {
		at := noon
		defer processor(b)()
		for b.Loop() {
			at = at.Add(time.Second)
			used := map[apikey.KeyID]time.Time{}
			for range 4096 {
				used[apikey.KeyID(rand.IntN(keys)+1)] = at
			}
			must(b, r.TouchKeys(ctx, used))
		}
	})
}
