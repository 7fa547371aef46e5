package usagefile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/usage"
	"github.com/tokenkithq/authz/usage/usagefile"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, path string, o usagefile.Options) *usagefile.File {
	t.Helper()
	file, err := usagefile.Open(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func minuteOf(at time.Time) int64 { return at.Unix() / 60 }

// periods returns what a history says of a key, by start.
func periods(t testing.TB, file *usagefile.File, id apikey.KeyID, resolution usage.Resolution) map[int64]uint64 {
	t.Helper()
	all := map[int64]uint64{}
	query := &usage.Query{Keys: []apikey.KeyID{id}, Resolution: resolution, To: 1 << 40}
	err := file.Read(context.Background(), query, func(_ apikey.KeyID, _ uint64, periods []usage.Period) {
		for _, p := range periods {
			all[resolution.Start(p.Start)] += p.Counts.Total()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A key in use for two years has, at any time, the minutes, hours and days
// that are to be kept, and no more; one that is not used any more has nothing
// in the end, nor has the file.
func TestRetention(t *testing.T) {
	options := usagefile.Options{KeepMinutes: 90 * time.Minute, KeepHours: 30 * time.Hour, KeepDays: 5 * 24 * time.Hour}
	for _, id := range []apikey.KeyID{1, 59, 60*23 + 7, 1 << 40} {
		t.Run(fmt.Sprint("key ", id), func(t *testing.T) {
			file := open(t, filepath.Join(t.TempDir(), "usage.db"), options)
			now := noon
			const step = 13 * time.Minute
			for n := range uint64(8 * 24 * time.Hour / step) {
				now = now.Add(step)
				fold := &usage.Fold{Number: n + 1, Now: now, Deltas: []usage.Delta{{Key: id, Minute: minuteOf(now), Counts: usage.Counts{1}}}}
				if err := file.Fold(t.Context(), fold); err != nil {
					t.Fatal(err)
				}
			}
			for resolution, keep := range map[usage.Resolution]time.Duration{usage.Minute: options.KeepMinutes, usage.Hour: options.KeepHours, usage.Day: options.KeepDays} {
				want := map[int64]uint64{}
				for at := now; at.After(noon); at = at.Add(-step) {
					want[resolution.Start(minuteOf(at))]++
				}
				got := periods(t, file, id, resolution)
				oldest := resolution.Start(minuteOf(now.Add(-keep)))
				for start, n := range want {
					// The oldest period may or may not have been removed yet.
					if start > oldest && got[start] != n {
						t.Errorf("%v %d: %d calls, expected %d", resolution, start, got[start], n)
					}
				}
				for start := range got {
					// Hours are shortened once an hour, days once a day.
					if start < oldest-2*24*60*int64(resolution)/2-1 {
						t.Errorf("%v %d is still there", resolution, start)
					}
				}
			}
			for _, later := range []time.Duration{2 * time.Hour, 40 * time.Hour, 7 * 24 * time.Hour} {
				if err := file.Expire(t.Context(), now.Add(later)); err != nil {
					t.Fatal(err)
				}
				if got := periods(t, file, id, usage.Minute); len(got) > 0 {
					t.Errorf("%v later: %d minutes", later, len(got))
				}
				if got := periods(t, file, id, usage.Hour); (len(got) > 0) != (later < options.KeepHours) {
					t.Errorf("%v later: %d hours", later, len(got))
				}
				if got := periods(t, file, id, usage.Day); (len(got) > 0) != (later < options.KeepDays) {
					t.Errorf("%v later: %d days", later, len(got))
				}
			}
			if n := records(t, file); n != 0 {
				t.Errorf("%d records are left", n)
			}
		})
	}
}

// records counts the records of histories in a file, which it closes.
func records(t *testing.T, file *usagefile.File) (n uint64) {
	t.Helper()
	path := file.Path()
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := boltfile.Open(t.Context(), path, usagefile.Options{}.FileOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	err = raw.View(t.Context(), func(tx *boltfile.Tx) error {
		for _, bucket := range []string{"minutes", "hours", "days"} {
			count, err := tx.Count(bucket)
			if err != nil {
				return err
			}
			n += count
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Trim removes the entries up to its number, that one included, and no other.
func TestTrim(t *testing.T) {
	file := open(t, filepath.Join(t.TempDir(), "usage.db"), usagefile.Options{})
	for n := 1; n <= 300; n++ {
		if err := file.Append(t.Context(), &usage.Entry{Number: uint64(n), Deltas: []usage.Delta{deltaOf(n, 6)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Trim(t.Context(), 298); err != nil {
		t.Fatal(err)
	}
	var left []usage.Delta
	last, err := file.Replay(t.Context(), func(d *usage.Delta) { left = append(left, *d) })
	if err != nil || last != 300 || !reflect.DeepEqual(left, []usage.Delta{deltaOf(299, 6), deltaOf(300, 6)}) {
		t.Errorf("left: %v, last number %d, %v", left, last, err)
	}
}

func TestRefusesOtherFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usage.db")
	if err := os.WriteFile(path, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := usagefile.Open(t.Context(), path, usagefile.Options{}); !errors.Is(err, boltfile.ErrForeign) && !errors.Is(err, boltfile.ErrDamaged) {
		t.Errorf("got %v", err)
	}
}
