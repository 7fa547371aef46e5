package usage_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
)

// Counting allocates nothing for keys that were in use before, nor does the
// first call after a write.
func TestRecordAllocatesNothing(t *testing.T) {
	r, _ := openRecorder(t, usage.Options{})
	now := noon
	round := func() {
		for id := range apikey.KeyID(200) {
			r.Record(id+1, apikey.ReasonAllowed, now)
		}
	}
	for range 2 { // both halves of each shard
		round()
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(time.Minute)
	if n := testing.AllocsPerRun(10, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	for name, keys := range map[string]int{"1 key": 1, "100000 keys": 100_000} {
		b.Run(name, func(b *testing.B) {
			r, _ := openRecorder(b, usage.Options{})
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				r.Record(apikey.KeyID(1+i%keys), apikey.ReasonAllowed, noon)
			}
		})
	}
}

// One key for all goroutines, and one for each.
func BenchmarkRecordParallel(b *testing.B) {
	for name, step := range map[string]int64{"one key": 0, "own keys": 1} {
		b.Run(name, func(b *testing.B) {
			r, _ := openRecorder(b, usage.Options{})
			var last atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				id := apikey.KeyID(1 + last.Add(step))
				for pb.Next() {
					r.Record(id, apikey.ReasonAllowed, noon)
				}
			})
		})
	}
}

// BenchmarkSeconds is one second of 100,000 keys that each make a call in each
// half of it: two steps of the loop. It also reports the longest step, which
// is what a crash may lose besides half a second, and the file's size.
func BenchmarkSeconds(b *testing.B) {
	const keys = 100_000
	now := noon
	r, journal := openRecorder(b, usage.Options{Now: func() time.Time { return now }})
	var longest, all time.Duration
	steps := 0
	for b.Loop() {
		for range 2 {
			for id := range apikey.KeyID(keys) {
				r.Record(id+1, apikey.ReasonAllowed, now)
			}
			began := time.Now()
			if err := r.Step(b.Context()); err != nil {
				b.Fatal(err)
			}
			steps++
			all += time.Since(began)
			longest = max(longest, time.Since(began))
			now = now.Add(500 * time.Millisecond)
		}
	}
	info, err := os.Stat(journal.File.Path())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(longest.Milliseconds()), "ms-longest")
	b.ReportMetric(float64(all.Milliseconds())/float64(steps), "ms/step")
	b.ReportMetric(float64(info.Size())/1e6, "MB")
}

// BenchmarkTotals is what the list of keys asks for.
func BenchmarkTotals(b *testing.B) {
	now := noon
	r, _ := openRecorder(b, usage.Options{FoldEvery: 1, Now: func() time.Time { return now }})
	ids := make([]apikey.KeyID, usage.MaxKeys)
	for i := range ids {
		ids[i] = apikey.KeyID(1 + i*7)
	}
	for hour := range 100 {
		now = noon.Add(time.Duration(hour) * time.Hour)
		for _, id := range ids {
			r.Record(id, apikey.ReasonAllowed, now)
		}
		if err := r.Step(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := r.Totals(b.Context(), ids, now); err != nil {
			b.Fatal(fmt.Errorf("totals: %w", err))
		}
	}
}
