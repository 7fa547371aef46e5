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
	"github.com/tokenkithq/authz/internal/boltfile/boltfiletest"
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

// change makes the n-th of a series of changes, from 1 on: each number is an
// entry, a fold of the two entries before it, a trim, or forgets a key.
func change(ctx context.Context, file *usagefile.File, n int) error {
	number := uint64(n)
	now := noon.Add(time.Duration(n) * time.Minute)
	switch n % 8 {
	case 3, 6:
		fold := &usage.Fold{Number: number, Now: now}
		for id := range apikey.KeyID(40) {
			for m := n - 2; m < n; m++ {
				fold.Deltas = append(fold.Deltas, deltaOf(m, id))
			}
		}
		return file.Fold(ctx, fold)
	case 7:
		return file.Forget(ctx, number, []apikey.KeyID{apikey.KeyID(1 + n/8%40)})
	case 0:
		return file.Append(ctx, &usage.Entry{Number: number})
	}
	entry := &usage.Entry{Number: number}
	for id := range apikey.KeyID(40) {
		entry.Deltas = append(entry.Deltas, deltaOf(n, id))
	}
	if err := file.Append(ctx, entry); err != nil || n%8 != 1 {
		return err
	}
	return file.Trim(ctx, uint64(max(0, n-8)))
}

func deltaOf(n int, id apikey.KeyID) usage.Delta {
	return usage.Delta{Key: id + 1, Minute: minuteOf(noon.Add(time.Duration(n) * time.Minute)), Counts: usage.Counts{uint64(n), 0, 1}}
}

// state is all that a file says.
type state struct {
	last uint64
	days map[apikey.KeyID]uint64
	log  map[apikey.KeyID]uint64
}

func stateOf(ctx context.Context, file *usagefile.File) (*state, error) {
	s := &state{days: map[apikey.KeyID]uint64{}, log: map[apikey.KeyID]uint64{}}
	if err := file.Check(ctx); err != nil {
		return nil, err
	}
	var err error
	s.last, err = file.Replay(ctx, func(d *usage.Delta) { s.log[d.Key] += d.Counts.Total() })
	if err != nil {
		return nil, err
	}
	query := &usage.Query{Resolution: usage.Day, To: 1 << 40}
	for id := range apikey.KeyID(40) {
		query.Keys = append(query.Keys, id+1)
	}
	return s, file.Read(ctx, query, func(id apikey.KeyID, _ uint64, periods []usage.Period) {
		for _, p := range periods {
			s.days[id] += p.Counts.Total()
		}
	})
}

// holds returns a check that a file holds all of the first n changes, or of
// more, up to most, and nothing else.
func holds(t *testing.T, most int) func(path string, n int) error {
	t.Helper()
	ctx := context.Background()
	file := open(t, filepath.Join(t.TempDir(), "usage.db"), usagefile.Options{})
	states := map[uint64]*state{}
	for n := range most + 1 {
		if n > 0 {
			if err := change(ctx, file, n); err != nil {
				t.Fatal(err)
			}
		}
		s, err := stateOf(ctx, file)
		if err != nil {
			t.Fatal(err)
		}
		states[uint64(n)] = s
	}
	return func(path string, n int) (err error) {
		file, err := usagefile.Open(ctx, path, usagefile.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		got, err := stateOf(ctx, file)
		if err != nil {
			return err
		}
		if got.last < uint64(n) {
			return fmt.Errorf("%w: it holds %d of %d changes", boltfiletest.ErrLost, got.last, n)
		}
		if want := states[got.last]; want == nil || !reflect.DeepEqual(got, want) {
			return fmt.Errorf("%w: it does not hold what change %d left", boltfiletest.ErrHalfApplied, got.last)
		}
		return nil
	}
}

// A damaged file is refused, or holds all that it held.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "usage.db")
	const changes = 80
	var versions [][]byte
	file := open(t, path, usagefile.Options{})
	for n := range changes {
		if err := change(t.Context(), file, n+1); err != nil {
			t.Fatal(err)
		}
		if (n+1)%(changes/4) > 0 {
			continue
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, image)
		file = open(t, path, usagefile.Options{})
	}
	check := holds(t, changes)
	boltfiletest.Damage(t, boltfiletest.DamageOptions{
		Versions: versions,
		Rounds:   200,
		Refusals: []error{boltfile.ErrDamaged, boltfile.ErrForeign},
		Check:    func(path string) error { return check(path, changes) },
	})
}

// Whenever the power is lost, every change that was acknowledged is there, and
// no change in part.
func TestPowerLoss(t *testing.T) {
	const changes = 80
	check := holds(t, changes)
	boltfiletest.PowerLoss(t, boltfiletest.PowerLossOptions{
		Images: 150,
		Workload: func(t *testing.T, dir string, ack func(int)) {
			file := open(t, filepath.Join(dir, "usage.db"), usagefile.Options{})
			for n := range changes {
				if err := change(t.Context(), file, n+1); err != nil {
					t.Fatal(err)
				}
				ack(n + 1)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		},
		Check: func(dir string, acked map[int]bool) error {
			last := 0
			for n := range acked {
				last = max(last, n)
			}
			return check(filepath.Join(dir, "usage.db"), last)
		},
	})
}
