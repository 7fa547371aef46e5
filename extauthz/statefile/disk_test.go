package statefile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/extauthz/statefile"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/internal/boltfile/boltfiletest"
)

// batchOf is the n-th of a series of saves, from 1 on, and apply what it makes
// of the records that were there.
func batchOf(n int) *limit.Batch {
	batch := &limit.Batch{State: limit.State{Running: true, Clock: limit.Clock{Time: int64(n)}}}
	for i := range 10 {
		id := apikey.KeyID(1 + (n*7+i*13)%200)
		if (n+i)%5 == 0 {
			batch.Delete = append(batch.Delete, id)
			continue
		}
		batch.Put = append(batch.Put, limit.Record{
			Key: id, Limit: uint32(n), Due: []limit.Due{{At: int64(n) * 60_000, Tokens: uint32(i + 1)}, {At: int64(n+i+1) * 60_000, Tokens: 9}},
		})
	}
	return batch
}

func apply(records map[apikey.KeyID]limit.Record, batch *limit.Batch) {
	for _, id := range batch.Delete {
		delete(records, id)
	}
	for _, record := range batch.Put {
		records[record.Key] = record
	}
}

// holds checks that a file holds all of the first n saves, or of more, up to
// most, and nothing else.
func holds(path string, n, most int) (err error) {
	ctx := context.Background()
	file, err := statefile.Open(ctx, path, statefile.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := file.Check(ctx); err != nil {
		return err
	}
	state, err := file.Limits().State(ctx)
	if err != nil {
		return err
	}
	saves := int(state.Clock.Time)
	if saves < n {
		return fmt.Errorf("%w: it holds %d of %d saves", boltfiletest.ErrLost, saves, n)
	}
	want := map[apikey.KeyID]limit.Record{}
	for i := range min(saves, most) {
		apply(want, batchOf(i+1))
	}
	got := map[apikey.KeyID]limit.Record{}
	err = file.Limits().Records(ctx, func(r *limit.Record) error {
		kept := *r
		kept.Due = append([]limit.Due(nil), r.Due...)
		got[r.Key] = kept
		return nil
	})
	if err != nil {
		return err
	}
	if saves > most || !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%w: it does not hold what save %d left", boltfiletest.ErrHalfApplied, saves)
	}
	return nil
}

// A damaged file is refused, or holds all that it held.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var versions [][]byte
	const saves = 120
	file := open(t, path)
	for n := range saves {
		if err := file.Limits().Save(t.Context(), batchOf(n+1)); err != nil {
			t.Fatal(err)
		}
		if (n+1)%(saves/4) > 0 {
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
		file = open(t, path)
	}
	boltfiletest.Damage(t, boltfiletest.DamageOptions{
		Versions: versions,
		Rounds:   300,
		Refusals: []error{boltfile.ErrDamaged, boltfile.ErrForeign},
		Check:    func(path string) error { return holds(path, saves, saves) },
	})
}

// Whenever the power is lost, every save that was acknowledged is there, and
// no save in part.
func TestPowerLoss(t *testing.T) {
	const saves = 100
	boltfiletest.PowerLoss(t, boltfiletest.PowerLossOptions{
		Images: 150,
		Workload: func(t *testing.T, dir string, ack func(int)) {
			journal := open(t, filepath.Join(dir, "state.db")).Limits()
			for n := range saves {
				if err := journal.Save(t.Context(), batchOf(n+1)); err != nil {
					t.Fatal(err)
				}
				ack(n + 1)
			}
		},
		Check: func(dir string, acked map[int]bool) error {
			last := 0
			for n := range acked {
				last = max(last, n)
			}
			return holds(filepath.Join(dir, "state.db"), last, saves)
		},
	})
}

// A limiter on a disk that stalls, and then is full: calls below q pass, those
// beyond fail, and once the disk is well again all is as though nothing was.
func TestLimiterOnBadDisk(t *testing.T) {
	boltfiletest.OnDisk(t, func(t *testing.T, disk *boltfiletest.Disk) {
		file := open(t, filepath.Join(disk.Dir, "state.db"))
		limiter, err := limit.New(t.Context(), limit.Options{Journal: file.Limits(), Interval: 10 * time.Millisecond, Wait: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- limiter.Run(t.Context()) }()
		const q = 100
		key := &apikey.Key{ID: 7, RateLimitPerHour: 64 * q}
		spent := uint32(0)
		spend := func() error {
			result, err := limiter.Spend(t.Context(), key, 1, time.Now())
			if err == nil && !result.Allowed {
				t.Fatalf("denied after %d calls", spent)
			}
			spent++
			return err
		}
		fails := []func() error{
			func() error { return disk.Stall("sync", 0) },
			func() error { return disk.Fail("write", 0, -1, syscall.ENOSPC) },
		}
		for i, fail := range fails {
			if err := fail(); err != nil {
				t.Fatal(err)
			}
			passed := 0
			for spend() == nil {
				passed++
			}
			// The last call before may have been one; a save under way may have
			// covered some.
			if passed < q-1 || passed > 2*q {
				t.Errorf("fault %d: %d calls passed, expected about %d", i, passed, q)
			}
			if err := disk.Heal(); err != nil {
				t.Fatal(err)
			}
			for spend() != nil { // until the disk has caught up
			}
		}
		if err := limiter.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		again, err := limit.New(t.Context(), limit.Options{Journal: file.Limits()})
		if err != nil {
			t.Fatal(err)
		}
		if got := again.Peek(key, 1, time.Now()).Remaining; got != 64*q-spent {
			t.Errorf("%d calls remain, expected %d", got, 64*q-spent)
		}
	})
}
