package usage_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
	"github.com/tokenkithq/authz/usage/usagefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faulty is a file whose changes can be made to fail, before they are made or
// afterwards. It keeps an exact log of those that were made.
type faulty struct {
	*usagefile.File
	mu            sync.Mutex
	before, after map[string]error         // by method
	entries       map[uint64][]usage.Delta // that were appended and not forgotten
	maintained    func(now time.Time)      // hears of folds and expiries
	folds, trims  int
	during        func() // called in the middle of a Read
}

var errDisk = errors.New("the disk is full")

// tb is what a test and one of its properties have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
}

func newFaulty(t tb, path string) *faulty {
	t.Helper()
	f := &faulty{entries: map[uint64][]usage.Delta{}, before: map[string]error{}, after: map[string]error{}, maintained: func(time.Time) {}}
	f.open(t, path)
	return f
}

func (f *faulty) open(t tb, path string) {
	t.Helper()
	file, err := usagefile.Open(context.Background(), path, usagefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.File = file
}

func (f *faulty) fail(before bool, method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before {
		f.before[method] = err
	} else {
		f.after[method] = err
	}
}

func (f *faulty) call(method string, do func() error, done func()) error {
	f.mu.Lock()
	before, after := f.before[method], f.after[method]
	f.mu.Unlock()
	if before != nil {
		return before
	}
	if err := do(); err != nil {
		return err
	}
	f.mu.Lock()
	done()
	f.mu.Unlock()
	return after
}

func (f *faulty) Append(ctx context.Context, entry *usage.Entry) error {
	return f.call("append", func() error { return f.File.Append(ctx, entry) }, func() {
		f.entries[entry.Number] = slices.Clone(entry.Deltas)
	})
}

func (f *faulty) Fold(ctx context.Context, fold *usage.Fold) error {
	return f.call("fold", func() error { return f.File.Fold(ctx, fold) }, func() { f.folds++; f.maintained(fold.Now) })
}

func (f *faulty) Trim(ctx context.Context, last uint64) error {
	return f.call("trim", func() error { return f.File.Trim(ctx, last) }, func() { f.trims++ })
}

func (f *faulty) Expire(ctx context.Context, now time.Time) error {
	return f.call("expire", func() error { return f.File.Expire(ctx, now) }, func() { f.maintained(now) })
}

func (f *faulty) Forget(ctx context.Context, number uint64, keys []apikey.KeyID) error {
	return f.call("forget", func() error { return f.File.Forget(ctx, number, keys) }, func() {
		for n, deltas := range f.entries {
			if n < number {
				f.entries[n] = slices.DeleteFunc(deltas, func(d usage.Delta) bool { return slices.Contains(keys, d.Key) })
			}
		}
	})
}

func (f *faulty) Read(ctx context.Context, q *usage.Query, fn func(apikey.KeyID, uint64, []usage.Period)) error {
	if f.during != nil {
		f.during()
	}
	return f.File.Read(ctx, q, fn)
}

func newPath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "usage.db")
}

func newRecorder(t tb, o usage.Options) *usage.Recorder {
	t.Helper()
	r, err := usage.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// count returns the calls of a key in a series that has all of them.
func count(t tb, r *usage.Recorder, id apikey.KeyID, now time.Time) usage.Counts {
	t.Helper()
	points, err := r.Series(context.Background(), id, usage.Day, now.AddDate(0, 0, -300), now.AddDate(0, 0, 300))
	if err != nil {
		t.Fatal(err)
	}
	var all usage.Counts
	for i := range points {
		all.Add(&points[i].Counts)
	}
	return all
}
