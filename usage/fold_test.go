package usage_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
)

// A series is right whatever is folded while it is read.
func TestSeriesDuringFold(t *testing.T) {
	r, journal := openRecorder(t, usage.Options{FoldEvery: 1})
	calls := uint64(0)
	record := func() {
		r.Record(1, apikey.ReasonAllowed, noon)
		calls++
	}
	record()
	reads := 0
	journal.during = func() {
		if reads++; reads > 2 {
			return
		}
		if err := r.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		reads = 0
		if got := count(t, r, 1, noon).Total(); got != calls {
			t.Errorf("%d calls, expected %d", got, calls)
		}
		record()
	}
}

// Many goroutines count, some read, one writes: nothing is lost.
func TestConcurrent(t *testing.T) {
	r, _ := openRecorder(t, usage.Options{FoldEvery: 1})
	const callers, calls = 8, 5000
	var all, others sync.WaitGroup
	var stop atomic.Bool
	others.Go(func() {
		for !stop.Load() {
			if err := r.Step(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	others.Go(func() {
		last := uint64(0)
		for !stop.Load() {
			got := count(t, r, 1, noon).Total()
			if got < last || got > callers*calls/2 {
				t.Errorf("%d calls after %d", got, last)
			}
			last = got
		}
	})
	for range callers {
		all.Go(func() {
			for i := range calls {
				r.Record(apikey.KeyID(1+i%2*(i%100)), apikey.ReasonAllowed, noon.Add(time.Duration(i)*time.Second))
			}
		})
	}
	all.Wait()
	stop.Store(true)
	others.Wait()
	var total usage.Counts
	for id := range apikey.KeyID(101) {
		counts := count(t, r, id, noon)
		total.Add(&counts)
	}
	if total.Total() != callers*calls {
		t.Errorf("%d calls, expected %d", total.Total(), callers*calls)
	}
}

// A cycle of many keys is folded in several changes, and all of it is there
// afterwards.
func TestFoldManyKeys(t *testing.T) {
	r, journal := openRecorder(t, usage.Options{})
	const keys = 3*usage.FoldBatch + 5
	for id := range apikey.KeyID(keys) {
		r.Record(id+1, apikey.ReasonAllowed, noon)
	}
	for i := 0; r.Stats().Waiting+r.Stats().Unfolded > 0; i++ {
		if err := r.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i > 10 {
			t.Fatalf("still %+v", r.Stats())
		}
	}
	if journal.folds != 4 || journal.trims != 1 {
		t.Errorf("%d folds, %d trims", journal.folds, journal.trims)
	}
	again := newRecorder(t, usage.Options{Journal: journal, Now: fixed(noon)})
	for _, id := range []apikey.KeyID{1, usage.FoldBatch, usage.FoldBatch + 1, keys} {
		if got := count(t, again, id, noon).Total(); got != 1 {
			t.Errorf("key %d has %d calls", id, got)
		}
	}
}

// What is appended while a cycle is under way is not trimmed with it.
func TestTrimKeepsNewEntries(t *testing.T) {
	r, journal := openRecorder(t, usage.Options{})
	step := func(want error) {
		t.Helper()
		r.Record(1, apikey.ReasonAllowed, noon)
		if err := r.Step(t.Context()); !errors.Is(err, want) {
			t.Fatalf("got %v, expected %v", err, want)
		}
	}
	journal.fail(false, "fold", errDisk)
	step(errDisk)
	step(errDisk)
	journal.fail(false, "fold", nil)
	step(nil)
	if journal.trims != 1 {
		t.Fatalf("%d trims", journal.trims)
	}
	after := newRecorder(t, usage.Options{Journal: journal, Now: fixed(noon)})
	if got := count(t, after, 1, noon).Total(); got != 3 {
		t.Errorf("%d calls are there after a crash, expected 3", got)
	}
}
