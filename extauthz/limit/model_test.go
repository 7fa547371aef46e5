package limit_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/extauthz/statefile"
	"pgregory.net/rapid"
)

// TestModel takes generated steps with a limiter and checks each answer twice:
// against the log of all calls that passed, of which no closed 60 minutes may
// hold more than the limit, and against what the package promises of each
// token, which must be neither late nor early.
//
// TOKENKIT_MODEL_STEPS says how many steps to take.
func TestModel(t *testing.T) {
	steps := modelSteps(t, 30_000)
	tally := &tally{}
	defer tally.print()
	for tally.steps < steps && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			if tally.steps < steps {
				runWorld(t, rt, tally, newMemory(), 300)
			}
		})
	}
}

// TestModelOnFile takes fewer steps, with a real file.
func TestModelOnFile(t *testing.T) {
	steps := modelSteps(t, 50_000) / 50
	tally := &tally{}
	folder := t.TempDir()
	files := 0
	for tally.steps < steps && !t.Failed() {
		rapid.Check(t, func(rt *rapid.T) {
			if tally.steps < steps {
				files++
				runWorld(t, rt, tally, &onFile{path: filepath.Join(folder, strconv.Itoa(files))}, 100)
			}
		})
	}
}

func modelSteps(t *testing.T, otherwise int) int {
	text := cmp.Or(os.Getenv("TOKENKIT_MODEL_STEPS"), strconv.Itoa(otherwise))
	steps, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("TOKENKIT_MODEL_STEPS: expected a number, got %q", text)
	}
	return steps
}

// onFile is a journal that is opened again at each start.
type onFile struct {
	limit.Journal
	path string
	file *statefile.File
}

func (o *onFile) reopen(ctx context.Context) error {
	if o.file != nil {
		if err := o.file.Close(); err != nil {
			return err
		}
	}
	file, err := statefile.Open(ctx, o.path, statefile.Options{})
	if err == nil {
		o.file, o.Journal = file, file.Limits()
	}
	return err
}

type tally struct {
	steps, calls, crashes, restarts, overLimit, wrongDenials int
}

func (c *tally) print() {
	fmt.Printf("steps=%d calls=%d crashes=%d clean_restarts=%d over_limit=%d wrong_denials=%d\n",
		c.steps, c.calls, c.crashes, c.restarts, c.overLimit, c.wrongDenials)
}

// world is a limiter, what surrounds it, and what is known about both.
type world struct {
	*rapid.T
	ctx     context.Context
	tally   *tally
	journal *faulty
	limiter *limit.Limiter
	keys    []*history

	now     int64 // true time since the world began, in nanoseconds
	wallOff int64 // what the wall clock shows too much, in nanoseconds
	// ahead is how much time a limiter believes to have passed that did not,
	// because the wall clock was set forward while it could not notice.
	ahead int64

	started int64 // true time of the start
	base    int64 // limiter's time of the start, in milliseconds
	latest  int64 // latest time the wall clock showed, as the limiter knows
	stops   []stop

	saving  checkpoint // save under way
	durable checkpoint // in the journal
	kept    bool       // the last save is in the journal
	told    int64      // durable.latest of the last save that was told to succeed
	running bool       // as in the journal
	holding chan error // result of a save that is held
	picks   uint64
}

type checkpoint struct{ true, limiter, wall, latest int64 }

var modelEpoch = time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC)

func (w *world) wall(now int64) time.Time { return modelEpoch.Add(time.Duration(now + w.wallOff)) }

func (w *world) reading(now int64) time.Time { return reading(w.wall(now), now+1) }

// millis is the limiter's time of a true time.
func (w *world) millis(now int64) int64 {
	return w.base + max(0, (now-w.started)/int64(time.Millisecond))
}

func runWorld(t *testing.T, rt *rapid.T, tally *tally, journal limit.Journal, steps int) {
	w := &world{T: rt, ctx: t.Context(), tally: tally}
	w.journal = &faulty{
		Journal: journal, begun: make(chan struct{}), released: make(chan outcome), saving: w.saveBegins, saved: w.saveEnds,
	}
	defer func() {
		// Also where the world failed in the middle of something.
		if w.holding != nil {
			w.release(fails)
		}
		if file, isFile := journal.(*onFile); isFile && file.file != nil {
			_ = file.file.Close()
		}
	}()
	w.start(false)
	for range rapid.IntRange(1, 3).Draw(rt, "keys") {
		w.createKey()
	}
	for range steps {
		w.tally.steps++
		w.step()
	}
}

func (w *world) saveBegins() {
	wall := w.wall(w.now).UnixMilli()
	w.latest = max(w.latest, wall)
	w.saving = checkpoint{w.now, w.millis(w.now), wall, w.latest}
	for _, h := range w.keys {
		h.saving()
	}
}

func (w *world) saveEnds(kept, told bool) {
	if w.kept = kept; kept {
		w.durable = w.saving
	}
	if told {
		w.told = w.saving.latest
	}
	for _, h := range w.keys {
		h.saved(told)
	}
}

// start starts a limiter on what the journal has.
func (w *world) start(clean bool) {
	stopped := int64(0)
	if w.limiter != nil {
		stopped = w.millis(w.now)
	}
	for {
		if file, isFile := w.journal.Journal.(*onFile); isFile {
			if err := file.reopen(w.ctx); err != nil {
				w.Fatalf("opening the journal again: %v", err)
			}
		}
		wall := w.wall(w.now).UnixMilli()
		w.base, w.latest = wall, max(wall, w.durable.latest)
		if w.durable != (checkpoint{}) {
			w.base = w.durable.limiter + max(0, wall-w.durable.wall-1)
			believed := (w.base - w.durable.limiter) * int64(time.Millisecond)
			w.ahead += max(0, believed-(w.now-w.durable.true))
			if believed < min(w.now-w.durable.true, (wall-w.durable.wall)*int64(time.Millisecond))-2*int64(time.Millisecond) {
				w.Fatalf("the limiter lost more than two milliseconds across a start")
			}
		}
		w.started = w.now
		stops := w.stops
		if w.running {
			stops = append(stops, stop{w.base, w.latest})
		}
		w.journal.next = w.outcome(20)
		limiter, err := limit.New(w.ctx, limit.Options{Journal: w.journal, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return w.reading(w.now) }})
		if (err == nil) != (w.journal.next == succeeds) {
			w.Fatalf("starting: %v", err)
		}
		if w.kept {
			w.stops, w.running = stops, true
		}
		if err == nil {
			w.limiter = limiter
			break
		}
		w.now += 1000
	}
	w.journal.next = succeeds
	records := map[apikey.KeyID]*limit.Record{}
	err := w.journal.Records(w.ctx, func(r *limit.Record) error {
		kept := *r
		kept.Due = append([]limit.Due(nil), r.Due...)
		records[r.Key] = &kept
		return nil
	})
	if err != nil {
		w.Fatalf("reading the journal: %v", err)
	}
	for _, h := range w.keys {
		if complaint := h.restart(records[h.key.ID], w.stops, clean, stopped, w.base); complaint != "" {
			w.Fatalf("key %d: %s", h.key.ID, complaint)
		}
		w.peek(h)
	}
}

// outcome is mostly success.
func (w *world) outcome(oneIn int) outcome {
	if w.pick(oneIn, "does it fail") > 0 {
		return succeeds
	}
	return []outcome{fails, failsKept}[w.pick(2, "failure")]
}

var modelLimits = []uint32{0, 1, 2, 3, 10, 63, 64, 65, 66, 100, 127, 128, 130, 200, 640, 6400}

func (w *world) createKey() {
	w.keys = append(w.keys, &history{
		key: &apikey.Key{
			ID:               apikey.KeyID(len(w.keys) + 1),
			RateLimitPerHour: modelLimits[1+w.pick(len(modelLimits)-1, "limit")],
			CreatedAt:        w.wall(w.now).UTC().Truncate(time.Microsecond),
		},
		pending: w.stops,
	})
}

func (w *world) aKey() *history { return w.keys[w.pick(len(w.keys), "key")] }

// pick draws one of n evenly. Rapid itself prefers small numbers, which is good
// for values and bad for choices.
func (w *world) pick(n int, label string) int {
	w.picks++
	x := rapid.Uint64().Draw(w.T, label) + w.picks*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return int((x ^ x>>31) % uint64(n))
}

func (w *world) step() {
	switch kind := w.pick(100, "step"); {
	case kind < 25:
		h := w.aKey()
		w.spendCost(h, w.aCost(h), 0, w.hopeful())
	case kind < 30:
		w.exhaust(w.aKey())
	case kind < 37:
		w.burst(w.aKey())
	case kind < 62:
		w.passTime()
	case kind < 65:
		w.setWall()
	case kind < 75:
		w.save()
	case kind < 79:
		w.hold()
	case kind < 82:
		w.changeLimit(w.aKey())
	case kind < 84:
		if len(w.keys) < 6 {
			w.createKey()
		}
	case kind < 87:
		w.spendLate(w.aKey())
	case kind < 90:
		w.peek(w.aKey())
	case kind < 92:
		w.sweep()
	case kind < 96:
		w.stopCleanly()
	default:
		w.crash()
	}
}

// hopeful says whether a call waits for its saving.
func (w *world) hopeful() bool {
	return w.holding == nil && w.pick(4, "waits") > 0
}
