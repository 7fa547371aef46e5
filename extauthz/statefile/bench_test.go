package statefile_test

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// fill saves so many keys that each have tokens out in a quarter of all
// minutes.
func fill(b *testing.B, path string, keys int) {
	file := open(b, path)
	journal := file.Limits()
	now := time.Now().UnixMilli() / 60_000
	state := limit.State{Clock: limit.Clock{Time: now * 60_000, Wall: now * 60_000}}
	for first := 0; first < keys; first += 8192 {
		batch := limit.Batch{State: state}
		for i := range min(8192, keys-first) {
			record := limit.Record{Key: apikey.KeyID(first + i + 1), Limit: 5000}
			for m := range int64(15) {
				record.Due = append(record.Due, limit.Due{At: (now + 2 + 4*m) * 60_000, Tokens: 80})
			}
			batch.Put = append(batch.Put, record)
		}
		if err := journal.Save(b.Context(), &batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStart opens a file with a million keys and starts a limiter on it.
func BenchmarkStart(b *testing.B) {
	if testing.Short() {
		b.Skip("fills a large file")
	}
	path := filepath.Join(b.TempDir(), "state.db")
	const keys = 1_000_000
	fill(b, path, keys)
	for b.Loop() {
		began := time.Now()
		file := open(b, path)
		opened := time.Now()
		limiter, err := limit.New(b.Context(), limit.Options{Journal: file.Limits()})
		if err != nil {
			b.Fatal(err)
		}
		if got := limiter.Stats().Keys; got != keys {
			b.Fatalf("%d keys were loaded", got)
		}
		b.ReportMetric(float64(opened.Sub(began).Milliseconds()), "ms-open")
		b.ReportMetric(float64(time.Since(opened).Milliseconds()), "ms-load")
		if err := file.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSave saves keys that all have a few tokens out, in one batch.
func BenchmarkSave(b *testing.B) {
	for name, keys := range map[string]int{"1 key": 1, "8192 keys": 8192} {
		b.Run(name, func(b *testing.B) {
			journal := open(b, filepath.Join(b.TempDir(), "state.db")).Limits()
			var batch limit.Batch
			for i := range keys {
				batch.Put = append(batch.Put, limit.Record{Key: apikey.KeyID(i + 1), Limit: 5000, Due: []limit.Due{{At: 60_000, Tokens: 80}, {At: 120_000, Tokens: 80}}})
			}
			for b.Loop() {
				batch.Put[0].Due[0].Tokens++
				if err := journal.Save(b.Context(), &batch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStartBlocks starts a table on a file with a full one.
func BenchmarkStartBlocks(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	file := open(b, path)
	var batch block.Batch
	at := time.Now().UnixMilli()
	batch.State.Clock = block.Clock{Time: at, Wall: at}
	for n := range uint32(100_000) {
		batch.Put = append(batch.Put, block.Record{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 32),
			Opened: at, Failures: 3, Reason: apikey.ReasonUnknownKey,
		})
	}
	if err := file.Blocks().Save(b.Context(), &batch); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := block.New(b.Context(), block.Options{Journal: file.Blocks()}); err != nil {
			b.Fatal(err)
		}
	}
}
