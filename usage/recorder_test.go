package usage_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
)

// noon is a Sunday's.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func fixed(now time.Time) func() time.Time { return func() time.Time { return now } }

func openRecorder(t testing.TB, o usage.Options) (*usage.Recorder, *faulty) {
	t.Helper()
	journal := newFaulty(t, newPath(t))
	t.Cleanup(func() { _ = journal.Close() })
	o.Journal = journal
	if o.Now == nil {
		o.Now = fixed(noon)
	}
	return newRecorder(t, o), journal
}

// Every reason that is about a known key has an outcome, and no other.
func TestOutcomes(t *testing.T) {
	want := map[apikey.Reason]string{
		apikey.ReasonAllowed: "allowed", apikey.ReasonRateLimit: "limited", apikey.ReasonOrigin: "origin",
		apikey.ReasonAddress: "address", apikey.ReasonScope: "scope", apikey.ReasonDisabled: "state", apikey.ReasonExpired: "state",
	}
	for _, reason := range append(apikey.Reasons(), apikey.ReasonNone) {
		outcome, known := usage.OutcomeOf(reason)
		if text, expected := want[reason]; known != expected || known && outcome.String() != text {
			t.Errorf("%v counts as %v, %v; expected %q", reason, outcome, known, text)
		}
	}
}

func TestSeriesPeriods(t *testing.T) {
	r, _ := openRecorder(t, usage.Options{})
	at := time.Date(2026, 2, 28, 23, 59, 59, 999_999_999, time.UTC)
	r.Record(7, apikey.ReasonAllowed, at)
	r.Record(7, apikey.ReasonAllowed, at.Add(1))
	r.Record(7, apikey.ReasonOrigin, at.In(time.FixedZone("", 5*3600+1800)))
	for _, c := range []struct {
		name       string
		resolution usage.Resolution
		from, to   time.Time
		want       []uint64 // totals
		first      time.Time
	}{
		{"the minute before midnight", usage.Minute, at, at.Add(1), []uint64{2}, at.Truncate(time.Minute)},
		{"up to the next period, exclusive", usage.Minute, at, at.Add(2), []uint64{2, 1}, at.Truncate(time.Minute)},
		{"two minutes after", usage.Minute, at.Add(1), at.Add(1 + 2*time.Minute), []uint64{1, 0}, at.Add(1)},
		{"hours", usage.Hour, at.Add(-time.Hour), at.Add(time.Hour), []uint64{0, 2, 1}, at.Add(1 - 2*time.Hour)},
		{"days", usage.Day, at.Add(-time.Hour), at.Add(time.Hour), []uint64{2, 1}, at.Add(1 - 24*time.Hour)},
		{"another zone's days are not ours", usage.Day, at.In(time.FixedZone("", 3600)), at.Add(1), []uint64{2}, at.Add(1 - 24*time.Hour)},
		{"before 1970", usage.Day, time.Unix(-1e9, 0), time.Unix(1, 0), []uint64{0}, time.Unix(0, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			points, err := r.Series(t.Context(), 7, c.resolution, c.from, c.to)
			if err != nil {
				t.Fatal(err)
			}
			if len(points) != len(c.want) || !points[0].Time.Equal(c.first) {
				t.Fatalf("%d points from %v, expected %d from %v", len(points), points[0].Time, len(c.want), c.first)
			}
			for i, p := range points {
				if p.Counts.Total() != c.want[i] {
					t.Errorf("%v: %d calls, expected %d", p.Time, p.Counts.Total(), c.want[i])
				}
			}
		})
	}
}

func TestSeriesRefuses(t *testing.T) {
	r, _ := openRecorder(t, usage.Options{})
	many := make([]apikey.KeyID, usage.MaxKeys+1)
	for _, c := range []struct {
		name, field string
		ids         []apikey.KeyID
		resolution  usage.Resolution
		from, to    time.Time
	}{
		{"nothing", "to", nil, usage.Hour, noon, noon},
		{"the wrong way round", "to", nil, usage.Hour, noon, noon.Add(-time.Second)},
		{"a point too many", "from", nil, usage.Minute, noon, noon.Add(usage.MaxPoints*time.Minute + 1)},
		{"all of time", "from", nil, usage.Day, time.Unix(-1<<62, 0), time.Unix(1<<62, 0)},
		{"a key too many", "key_id", many, usage.Hour, noon, noon.Add(1)},
		{"no resolution", "resolution", nil, 3, noon, noon.Add(1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := r.SeriesOf(t.Context(), c.ids, c.resolution, c.from, c.to)
			var field *apikey.FieldError
			if !errors.As(err, &field) || field.Field != c.field {
				t.Errorf("got %v, expected an error of %s", err, c.field)
			}
		})
	}
	if points, err := r.Series(t.Context(), 1, usage.Minute, noon, noon.Add(usage.MaxPoints*time.Minute)); err != nil || len(points) != usage.MaxPoints {
		t.Errorf("%d points: %v", len(points), err)
	}
	if _, err := usage.ParseResolution("week"); err == nil || !strings.Contains(err.Error(), "minute, hour or day") {
		t.Errorf("got %v", err)
	}
}

func TestTotals(t *testing.T) {
	r, _ := openRecorder(t, usage.Options{})
	now := noon.Add(10 * time.Minute)
	for hours, calls := range []int{3, 1, 2} {
		for range calls {
			r.Record(1, apikey.ReasonAllowed, now.Add(-time.Duration(hours)*time.Hour))
		}
	}
	r.Record(1, apikey.ReasonAllowed, now.Add(-24*time.Hour))
	r.Record(2, apikey.ReasonRateLimit, now.Add(-23*time.Hour))
	totals, err := r.Totals(t.Context(), []apikey.KeyID{2, 1, 1, 3}, now)
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[apikey.KeyID][]uint64{1: {0, 2, 1, 3}, 2: {1, 0, 0, 0}, 3: {0, 0, 0, 0}} {
		points := totals[id]
		if len(points) != 24 || !points[23].Time.Equal(noon) {
			t.Fatalf("key %d: %d points", id, len(points))
		}
		for i, at := range []int{0, 21, 22, 23} {
			if got := points[at].Counts.Total(); got != want[i] {
				t.Errorf("key %d, hour %d: %d calls, expected %d", id, at, got, want[i])
			}
		}
	}
}

// What cannot be is not counted, and harms nothing.
func TestRecordIgnores(t *testing.T) {
	r, _ := openRecorder(t, usage.Options{})
	r.Record(0, apikey.ReasonAllowed, noon)
	r.Record(-1, apikey.ReasonAllowed, noon)
	r.Record(1, apikey.ReasonUnknownKey, noon)
	r.Record(1, apikey.Reason(255), noon)
	if stats := r.Stats(); stats != (usage.Stats{}) {
		t.Errorf("got %+v", stats)
	}
	r.Record(1, apikey.ReasonAllowed, time.Time{})
	r.Record(1, apikey.ReasonAllowed, time.Unix(1<<62, 0))
	r.Record(1, apikey.ReasonAllowed, time.Unix(-1<<62, 0))
	if err := r.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// While nothing can be written memory stays bounded, what does not fit is
// counted as dropped, and all that fits is there when the disk is well again.
func TestCapacity(t *testing.T) {
	var reports []error
	r, journal := openRecorder(t, usage.Options{Capacity: 640, Report: func(err error) { reports = append(reports, err) }})
	journal.fail(true, "append", errDisk)
	r.Record(1, apikey.ReasonAllowed, noon)
	for range 3 {
		if err := r.Step(t.Context()); !errors.Is(err, errDisk) {
			t.Fatalf("got %v", err)
		}
	}
	for id := range apikey.KeyID(5000) {
		r.Record(id+1, apikey.ReasonAllowed, noon)
	}
	r.Record(1, apikey.ReasonOrigin, noon)
	stats := r.Stats()
	if stats.Waiting != 704 || stats.Dropped != 5000-704 || stats.Failures != 3 || len(reports) != 1 {
		t.Errorf("got %+v and %d reports", stats, len(reports))
	}
	journal.fail(true, "append", nil)
	if err := r.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := count(t, r, 1, noon); got != (usage.Counts{usage.Allowed: 2, usage.Origin: 1}) {
		t.Errorf("got %v", got)
	}
	// There was more to be folded than should wait.
	if stats := r.Stats(); stats.Waiting != 0 || stats.Unfolded != 0 || journal.trims != 1 {
		t.Errorf("got %+v and %d trims", stats, journal.trims)
	}
}

// Run writes twice a second, folds once a minute, and stops when it is told.
func TestRun(t *testing.T) {
	path := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		journal := newFaulty(t, path)
		r := newRecorder(t, usage.Options{Journal: journal})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		written := func() int {
			journal.mu.Lock()
			defer journal.mu.Unlock()
			return len(journal.entries)
		}
		for i := range 4 {
			r.Record(1, apikey.ReasonAllowed, time.Now())
			time.Sleep(usage.DefaultEvery)
			synctest.Wait()
			if got := written(); got != i+1 {
				t.Fatalf("%d entries after %v", got, time.Duration(i+1)*usage.DefaultEvery)
			}
		}
		time.Sleep(usage.DefaultFoldEvery)
		synctest.Wait()
		if written() != 4 || journal.folds != 2 || journal.trims != 2 || r.Stats().Unfolded != 0 {
			t.Errorf("%d entries, %d folds, %d trims, %+v", written(), journal.folds, journal.trims, r.Stats())
		}
		r.Record(1, apikey.ReasonAllowed, time.Now())
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if written() != 5 {
			t.Errorf("%d entries in the end", written())
		}
		if err := journal.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A history is gone at once, for good, and late calls do not bring it back.
func TestForget(t *testing.T) {
	r, journal := openRecorder(t, usage.Options{FoldEvery: 1})
	for id := range apikey.KeyID(3) {
		r.Record(id+1, apikey.ReasonAllowed, noon)
	}
	if err := r.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Record(2, apikey.ReasonAllowed, noon)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Forget(2)
	r.Record(2, apikey.ReasonAllowed, noon)
	check := func(r *usage.Recorder) {
		t.Helper()
		if got := count(t, r, 2, noon); got.Total() != 0 {
			t.Errorf("a forgotten key has %v", got)
		}
		if count(t, r, 1, noon).Total() != 1 || count(t, r, 3, noon).Total() != 1 {
			t.Error("another key was forgotten")
		}
	}
	check(r)
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(r)
	check(newRecorder(t, usage.Options{Journal: journal, Now: fixed(noon)}))
}
