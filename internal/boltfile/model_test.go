package boltfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
	"pgregory.net/rapid"
)

var errOnPurpose = errors.New("failed on purpose")

// A file behaves as two maps do, whatever is put, deleted, taken back, backed
// up, compacted and reopened, and is always whole.
func TestModel(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "boltfile") // its syncs cost nothing
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	rounds := 0
	rapid.Check(t, func(t *rapid.T) {
		rounds++
		m := &model{path: filepath.Join(dir, fmt.Sprint(rounds)), want: map[string]string{}, sequence: map[string]uint64{}}
		m.open(t)
		defer func() {
			m.verify(t)
			if err := os.Remove(m.path); err != nil {
				t.Fatal(err)
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"update": m.update, "many": m.many, "scan": m.scan, "reopen": m.reopen, "backup": m.backup, "compact": m.compact, "": m.check,
		})
	})
}

type model struct {
	path     string
	file     *boltfile.File
	want     map[string]string // by bucket/key
	sequence map[string]uint64
}

func (m *model) open(t *rapid.T) {
	file, err := boltfile.Open(context.Background(), m.path, options)
	if err != nil {
		t.Fatal(err)
	}
	m.file = file
}

func drawKey(t *rapid.T) (bucket, key string) {
	bucket = rapid.SampledFrom(options.Buckets).Draw(t, "bucket")
	key = fmt.Sprintf("%03d", rapid.IntRange(0, 300).Draw(t, "key"))
	if rapid.IntRange(0, 20).Draw(t, "long") == 0 {
		key += strings.Repeat("k", 2000)
	}
	return bucket, key
}

func drawValue(t *rapid.T) string {
	size := rapid.SampledFrom([]int{0, 1, 10, 200, 1000, 5000, 20_000}).Draw(t, "size")
	return strings.Repeat(rapid.SampledFrom([]string{"x", "\x00", "7"}).Draw(t, "fill"), size)
}

// change is one put, deletion or sequence number in a transaction.
func change(t *rapid.T, tx *boltfile.Tx, want map[string]string, sequence map[string]uint64) error {
	bucket, key := drawKey(t)
	switch rapid.SampledFrom([]string{"put", "put", "delete", "sequence"}).Draw(t, "change") {
	case "put":
		value := drawValue(t)
		want[bucket+"/"+key] = value
		return tx.Put(bucket, []byte(key), []byte(value))
	case "delete":
		delete(want, bucket+"/"+key)
		return tx.Delete(bucket, []byte(key))
	}
	sequence[bucket]++
	n, err := tx.NextSequence(bucket)
	if err == nil && n != sequence[bucket] {
		err = fmt.Errorf("%s: sequence %d, expected %d", bucket, n, sequence[bucket])
	}
	return err
}

func (m *model) update(t *rapid.T) {
	want, sequence := maps.Clone(m.want), maps.Clone(m.sequence)
	fail := rapid.IntRange(0, 4).Draw(t, "fail") == 0
	err := m.file.Update(context.Background(), func(tx *boltfile.Tx) error {
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			if err := change(t, tx, want, sequence); err != nil {
				return err
			}
		}
		if fail {
			return errOnPurpose
		}
		return nil
	})
	if fail && errors.Is(err, errOnPurpose) {
		return
	}
	if err != nil || fail {
		t.Fatalf("got %v, expected failure %v", err, fail)
	}
	m.want, m.sequence = want, sequence
}

// many fills or empties a range, so that pages split and merge.
func (m *model) many(t *rapid.T) {
	bucket := rapid.SampledFrom(options.Buckets).Draw(t, "bucket")
	from, n := rapid.IntRange(0, 2000).Draw(t, "from"), rapid.IntRange(0, 400).Draw(t, "n")
	put, value := rapid.Bool().Draw(t, "put"), drawValue(t)[:0]+"some value of a usual length"
	err := m.file.Update(context.Background(), func(tx *boltfile.Tx) error {
		for i := range n {
			key := fmt.Sprintf("many %05d", from+i)
			if put {
				m.want[bucket+"/"+key] = value
				if err := tx.Put(bucket, []byte(key), []byte(value)); err != nil {
					return err
				}
				continue
			}
			delete(m.want, bucket+"/"+key)
			if err := tx.Delete(bucket, []byte(key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// scan changes records while it goes over them.
func (m *model) scan(t *rapid.T) {
	bucket := rapid.SampledFrom(options.Buckets).Draw(t, "bucket")
	prefix := rapid.SampledFrom([]string{"", "1", "many", "many 01", "none"}).Draw(t, "prefix")
	var expected, got []string
	for key := range m.want {
		if strings.HasPrefix(key, bucket+"/"+prefix) {
			expected = append(expected, strings.TrimPrefix(key, bucket+"/"))
		}
	}
	slices.Sort(expected)
	step := rapid.IntRange(1, 5).Draw(t, "step")
	err := m.file.Update(context.Background(), func(tx *boltfile.Tx) error {
		// What was touched before is scanned in memory, all else in its pages.
		for _, key := range expected[:rapid.IntRange(0, min(20, len(expected))).Draw(t, "touched")] {
			if err := tx.Put(bucket, []byte(key), []byte(m.want[bucket+"/"+key])); err != nil {
				return err
			}
		}
		return tx.Scan(bucket, []byte(prefix), func(key, value []byte) error {
			got = append(got, string(key))
			if m.want[bucket+"/"+string(key)] != string(value) {
				return fmt.Errorf("record %q differs", key)
			}
			if len(got)%step != 0 {
				return nil
			}
			delete(m.want, bucket+"/"+string(key))
			return tx.Delete(bucket, bytes.Clone(key))
		})
	})
	if err != nil || !slices.Equal(got, expected) {
		t.Fatalf("scanned %d records of %d, %v", len(got), len(expected), err)
	}
}

func (m *model) verify(t *rapid.T) {
	if err := m.file.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := boltfile.Verify(context.Background(), m.path, options)
	if err != nil {
		t.Fatal(err)
	}
	if report.LostPages != 0 || report.Buckets[0].Records+report.Buckets[1].Records != uint64(len(m.want)) {
		t.Fatalf("%+v, expected %d records", report, len(m.want))
	}
}

func (m *model) reopen(t *rapid.T) {
	m.verify(t)
	m.open(t)
}

func (m *model) backup(t *rapid.T) {
	var backup bytes.Buffer
	n, err := m.file.Backup(context.Background(), &backup)
	if err != nil || n != int64(backup.Len()) {
		t.Fatalf("backed up %d bytes, %v", n, err)
	}
	if rapid.Bool().Draw(t, "later change") {
		m.many(t)
		return
	}
	m.verify(t)
	if err := boltfile.Restore(context.Background(), m.path, &backup, options); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

func (m *model) compact(t *rapid.T) {
	m.verify(t)
	if _, _, err := boltfile.Compact(context.Background(), m.path, options); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

func (m *model) check(t *rapid.T) {
	got := map[string]string{}
	err := m.file.View(context.Background(), func(tx *boltfile.Tx) error {
		for _, bucket := range options.Buckets {
			err := tx.Scan(bucket, nil, func(key, value []byte) error {
				got[bucket+"/"+string(key)] = string(value)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || !maps.Equal(got, m.want) {
		t.Fatalf("%d records, expected %d, %v", len(got), len(m.want), err)
	}
}
