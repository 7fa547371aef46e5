package boltfile_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
)

// records is how many records the benchmark's file has; one that is as large
// as a big installation's takes a while to write.
func records(b *testing.B) int {
	if os.Getenv("TOKENKIT_MILLION") != "" {
		return 1_000_000
	}
	return 50_000
}

// BenchmarkOpen opens and verifies a file of records of about 250 bytes with
// random keys. With TOKENKIT_MILLION=1 they are a million.
func BenchmarkOpen(b *testing.B) {
	n := records(b)
	path := filepath.Join(b.TempDir(), "file")
	fill(b, path, n)
	for b.Loop() {
		f, err := boltfile.Open(b.Context(), path, options)
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB")
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func fill(b *testing.B, path string, n int) {
	b.Helper()
	f, err := boltfile.Open(b.Context(), path, options)
	if err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 200)
	for from := 0; from < n; from += 10_000 {
		err := f.Update(context.Background(), func(tx *boltfile.Tx) error {
			for i := from; i < min(from+10_000, n); i++ {
				key := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
				copy(value, fmt.Sprint(i))
				if err := tx.Put("a", key[:], value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkGet(b *testing.B) {
	path := filepath.Join(b.TempDir(), "file")
	fill(b, path, 50_000)
	f, err := boltfile.Open(b.Context(), path, options)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % 50_000
		key := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
		err := f.View(b.Context(), func(tx *boltfile.Tx) error {
			value, err := tx.Get("a", key[:])
			if len(value) != 200 {
				return fmt.Errorf("%d bytes: %w", len(value), err)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUpdate is one synced change at a time.
func BenchmarkUpdate(b *testing.B) {
	f, err := boltfile.Open(b.Context(), filepath.Join(b.TempDir(), "file"), options)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	i := uint64(0)
	for b.Loop() {
		i++
		err := f.Update(b.Context(), func(tx *boltfile.Tx) error {
			return tx.Put("a", binary.BigEndian.AppendUint64(nil, i), []byte("value"))
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
