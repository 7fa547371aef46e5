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
