package limit_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

func BenchmarkSpend(b *testing.B) {
	start := time.Now()
	for _, bench := range []struct {
		name  string
		limit uint32
		keys  int
	}{{"no limit", 0, 1}, {"by the minute", apikey.MaxRateLimit, 1}, {"denied", 60, 1}, {"100000 keys", apikey.MaxRateLimit, 100_000}} {
		b.Run(bench.name, func(b *testing.B) {
			l := newLimiter(b, limit.Options{})
			keys := make([]*apikey.Key, bench.keys)
			for i := range keys {
				keys[i] = oldKey(apikey.KeyID(i+1), bench.limit)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				// Time passes, so that tokens return.
				_, _ = l.Spend(b.Context(), keys[i%len(keys)], 1, start.Add(time.Duration(i)*time.Millisecond))
			}
		})
	}
}

// One key for all goroutines, and one for each.
func BenchmarkSpendParallel(b *testing.B) {
	for name, same := range map[string]bool{"one key": true, "own keys": false} {
		b.Run(name, func(b *testing.B) {
			l := newLimiter(b, limit.Options{})
			var last atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				id := apikey.KeyID(1)
				if !same {
					id = apikey.KeyID(last.Add(1))
				}
				key, now := oldKey(id, apikey.MaxRateLimit), time.Now()
				for pb.Next() {
					_, _ = l.Spend(b.Context(), key, 1, now)
				}
			})
		})
	}
}

// BenchmarkMemory reports what a key with tokens out takes of the heap.
func BenchmarkMemory(b *testing.B) {
	const keys = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := newLimiter(b, limit.Options{Capacity: keys})
		now := time.Now()
		for id := range apikey.KeyID(keys) {
			spend(b, l, oldKey(id+1, 6400), now)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/keys, "B/key")
		runtime.KeepAlive(l)
	}
}
