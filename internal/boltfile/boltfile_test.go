package boltfile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
)

var options = boltfile.Options{Kind: "test file", Version: 3, Buckets: []string{"a", "b"}}

func openAt(t testing.TB, path string) *boltfile.File {
	t.Helper()
	f, err := boltfile.Open(t.Context(), path, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func put(t testing.TB, f *boltfile.File, bucket, key, value string) {
	t.Helper()
	err := f.Update(context.Background(), func(tx *boltfile.Tx) error {
		return tx.Put(bucket, []byte(key), []byte(value))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dump returns all that a file holds.
func dump(t testing.TB, f *boltfile.File) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := f.View(context.Background(), func(tx *boltfile.Tx) error {
		for _, bucket := range options.Buckets {
			n := uint64(0)
			err := tx.Scan(bucket, nil, func(key, value []byte) error {
				n++
				all[bucket+"/"+string(key)] = string(value)
				return nil
			})
			if err != nil {
				return err
			}
			if count, err := tx.Count(bucket); err != nil || count != n {
				return fmt.Errorf("%s: counted %d of %d: %w", bucket, count, n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRecordsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f := openAt(t, path)
	for i := range 500 {
		put(t, f, "a", fmt.Sprint(i), string(bytes.Repeat([]byte{byte(i)}, i)))
	}
	want := dump(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, openAt(t, path)); fmt.Sprint(got) != fmt.Sprint(want) || len(got) != 500 {
		t.Fatalf("%d records, expected %d", len(got), len(want))
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

func TestConcurrentUpdates(t *testing.T) {
	f := openAt(t, filepath.Join(t.TempDir(), "file"))
	failed := errors.New("failed on purpose")
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			for j := range 5 {
				key := binary.BigEndian.AppendUint32(nil, uint32(i*5+j))
				err := f.Update(context.Background(), func(tx *boltfile.Tx) error {
					n, err := tx.NextSequence("b")
					if err != nil {
						return err
					}
					if err := tx.Put("a", key, fmt.Append(nil, n)); err != nil {
						return err
					}
					if i%4 == 0 {
						return failed
					}
					return nil
				})
				if i%4 == 0 != errors.Is(err, failed) {
					t.Errorf("update %d: %v", i, err)
				}
			}
		})
	}
	group.Wait()
	all := dump(t, f)
	numbers := map[string]bool{}
	for _, n := range all {
		numbers[n] = true
	}
	if len(all) != 240 || len(numbers) != 240 {
		t.Fatalf("%d records with %d numbers, expected 240", len(all), len(numbers))
	}
}

func TestBackupRestoreCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f := openAt(t, path)
	for i := range 301 {
		put(t, f, "a", fmt.Sprint(i), "value")
		if i%100 != 0 {
			continue
		}
		var backup bytes.Buffer
		if _, err := f.Backup(t.Context(), &backup); err != nil {
			t.Fatal(err)
		}
		want := dump(t, f)
		other := filepath.Join(t.TempDir(), "other")
		if err := boltfile.Restore(t.Context(), other, &backup, options); err != nil {
			t.Fatal(err)
		}
		before, after, err := boltfile.Compact(t.Context(), other, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(before, after)
		g := openAt(t, other)
		if got := dump(t, g); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%d records, expected %d", len(got), len(want))
		}
		put(t, g, "b", "x", "y")
		put(t, g, "b", "x", "z")
	}
}
