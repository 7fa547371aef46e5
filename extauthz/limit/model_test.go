package limit_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
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
	steps := modelSteps(t, 60_000)
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
	steps := modelSteps(t, 60_000) / 50
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
		w.spend(w.aKey(), 0, w.hopeful())
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

// spend makes one call, with a reading that is late nanoseconds old, and
// reports whether it passed.
func (w *world) spend(h *history, late int64, waits bool) bool {
	w.tally.calls++
	n := h.key.RateLimitPerHour
	ctx := hopeless(w.ctx)
	if waits {
		w.journal.next = w.outcome(10)
		defer func() { w.journal.next = succeeds }()
		ctx = newSavingContext(w.ctx, func() error { return w.limiter.Save(w.ctx) })
	}
	unsaved, isNew := h.unsaved, !h.kept && h.key.CreatedAt.UnixMilli() > w.told
	mustWait := unsaved >= q(n) || isNew
	wasTold := false
	if waits {
		inner := w.journal.saved
		w.journal.saved = func(kept, told bool) { inner(kept, told); wasTold = wasTold || told }
		defer func() { w.journal.saved = inner }()
	}
	result, err := w.limiter.Spend(ctx, h.key, w.reading(w.now-late))
	want := h.expect(1, w.millis(w.now-late))
	spent := want.Allowed && n > 0
	w.check(h, "spend", result, want, err)
	if spent {
		h.unsaved++
		if wasTold {
			h.unsaved, h.dirty, h.kept, h.savedLimit = 0, false, true, n
		}
		if (err != nil) != (mustWait && !wasTold) {
			w.Fatalf("key %d of limit %d with %d calls unsaved, new: %v: error %v", h.key.ID, n, unsaved, isNew, err)
		}
	}
	if result.Allowed && n > 0 {
		w.passed(h, w.now-late)
	}
	h.latest = max(h.latest, w.now-late+w.ahead)
	return err == nil && result.Allowed
}

// check compares an answer with the promise.
func (w *world) check(h *history, what string, got, want limit.Result, err error) {
	if err != nil {
		if !want.Allowed {
			w.Fatalf("%s, key %d: a call that is denied failed: %v", what, h.key.ID, err)
		}
		return
	}
	if got == want {
		return
	}
	switch {
	case want.Allowed && !got.Allowed:
		w.tally.wrongDenials++
		w.Fatalf("%s, key %d: denied although a token is owed: %+v, expected %+v", what, h.key.ID, got, want)
	case got.Allowed && !want.Allowed:
		w.tally.overLimit++
		w.Fatalf("%s, key %d: allowed although no token is back: %+v, expected %+v", what, h.key.ID, got, want)
	}
	w.Fatalf("%s, key %d: %+v, expected %+v", what, h.key.ID, got, want)
}

// passed logs a call that passed and checks the limit itself.
func (w *world) passed(h *history, now int64) {
	at := max(h.latest, now+w.ahead)
	h.latest = at
	if n := h.admit(at); n > int(h.key.RateLimitPerHour) {
		w.tally.overLimit++
		w.Fatalf("key %d: %d calls in 60 minutes, with a limit of %d", h.key.ID, n, h.key.RateLimitPerHour)
	}
}

func (w *world) exhaust(h *history) {
	waits := w.hopeful()
	for range 70 {
		if !w.spend(h, 0, waits) || h.key.RateLimitPerHour == 0 {
			return
		}
	}
}

// burst makes many calls at once, all at the same time.
func (w *world) burst(h *history) {
	n := int(h.key.RateLimitPerHour)
	callers := rapid.IntRange(2, 4).Draw(w.T, "callers")
	each := rapid.IntRange(1, 1+min(n, 700)/2).Draw(w.T, "calls each")
	waits := w.hopeful()
	w.tally.calls += callers * each
	now := w.reading(w.now)
	isNew, unsaved := !h.kept && h.key.CreatedAt.UnixMilli() > w.told, h.unsaved
	var ctx context.Context = hopeless(w.ctx)
	if waits {
		ctx = newSavingContext(w.ctx, func() error { return w.limiter.Save(w.ctx) })
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	allowed, failed := 0, 0
	for range callers {
		group.Go(func() {
			for range each {
				result, err := w.limiter.Spend(ctx, h.key, now)
				mu.Lock()
				if err != nil {
					failed++
				} else if result.Allowed {
					allowed++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if n == 0 {
		if allowed != callers*each {
			w.Fatalf("key %d without a limit: %d of %d calls passed", h.key.ID, allowed, callers*each)
		}
		return
	}
	spent := 0
	for range callers * each {
		if h.expect(1, w.millis(w.now)).Allowed {
			spent++
		}
	}
	h.unsaved += spent
	wantFailed := 0
	if waits {
		if err := w.limiter.Save(w.ctx); err != nil {
			w.Fatalf("saving: %v", err)
		}
		// Which save held which call is not known, but by now all are saved.
		h.unsaved, h.dirty = 0, false
	} else {
		wantFailed = max(0, spent-max(0, q(h.key.RateLimitPerHour)-unsaved))
		if isNew {
			wantFailed = spent
		}
	}
	if allowed+failed < spent {
		w.tally.wrongDenials++
	} else if allowed+failed > spent {
		w.tally.overLimit++
	}
	if allowed+failed != spent || failed != wantFailed {
		w.Fatalf("burst, key %d: %d calls passed and %d failed, expected %d and %d", h.key.ID, allowed, failed, spent-wantFailed, wantFailed)
	}
	for range allowed {
		w.passed(h, w.now)
	}
	h.latest = max(h.latest, w.now+w.ahead)
}

// spendLate makes a call whose reading is older than others'. A key with no
// token out may have forgotten what it has seen.
func (w *world) spendLate(h *history) {
	late := min(rapid.Int64Range(0, int64(2*time.Minute)).Draw(w.T, "late"), w.now-w.started)
	if len(h.backs(max(h.seen, w.millis(w.now)))) > 0 {
		w.spend(h, late, w.hopeful())
	}
}

func (w *world) peek(h *history) {
	got := w.limiter.Peek(h.key, w.reading(w.now))
	w.check(h, "peek", got, h.clone().expect(0, w.millis(w.now)), nil)
}

func (w *world) passTime() {
	const ms = int64(time.Millisecond)
	switch kind := w.pick(20, "how long"); {
	case kind < 3:
		w.now += rapid.Int64Range(0, 3*ms).Draw(w.T, "nanoseconds")
	case kind < 6:
		w.now += rapid.Int64Range(0, 2000).Draw(w.T, "milliseconds") * ms
	case kind < 8:
		w.now += rapid.Int64Range(0, 120).Draw(w.T, "seconds") * 1000 * ms
	case kind < 10:
		at := w.millis(w.now)
		w.passUntil(at - at%minuteMillis + minuteMillis)
	case kind < 16:
		h := w.aKey()
		if backs := h.backs(w.millis(w.now)); len(backs) > 0 {
			w.passUntil(backs[w.pick(len(backs), "token")])
		}
	case kind < 18:
		w.now += rapid.Int64Range(55*60, 65*60).Draw(w.T, "about an hour") * 1000 * ms
	case kind < 19:
		w.now += rapid.Int64Range(0, 4*60).Draw(w.T, "minutes") * 60_000 * ms
	default:
		w.now += rapid.Int64Range(0, 60*24).Draw(w.T, "hours") * 3_600_000 * ms
	}
}

// passUntil lets time pass until about a limiter's time.
func (w *world) passUntil(at int64) {
	near := rapid.SampledFrom([]int64{-1_000_000, -1, 0, 1, 1_000_000}).Draw(w.T, "near")
	w.now = max(w.now, w.started+(at-w.base)*int64(time.Millisecond)+near)
}

func (w *world) setWall() {
	w.wallOff += rapid.Int64Range(-1, 1).Draw(w.T, "forth or back") * rapid.SampledFrom([]int64{
		1, 1_000_000, 999_999_999, int64(time.Minute), int64(40 * time.Minute), int64(time.Hour), int64(72 * time.Hour),
	}).Draw(w.T, "far")
}

func (w *world) save() {
	if w.holding != nil {
		w.release(w.outcome(3))
		return
	}
	w.journal.next = w.outcome(4)
	if err := w.limiter.Save(w.ctx); (err == nil) != (w.journal.next == succeeds) {
		w.Fatalf("saving: %v", err)
	}
	w.journal.next = succeeds
}

// hold begins a save that will not end before it is released.
func (w *world) hold() {
	if w.holding != nil {
		return
	}
	w.holding = make(chan error, 1)
	w.journal.held = true
	go func(l *limit.Limiter, result chan<- error) { result <- l.Save(w.ctx) }(w.limiter, w.holding)
	<-w.journal.begun
}

func (w *world) release(how outcome) {
	w.journal.released <- how
	<-w.holding
	w.holding, w.journal.held = nil, false
}

// changeLimit changes a key's limit; not, however, to a lower one in the two
// cases in which the package's documentation says that a crash then costs
// more.
func (w *world) changeLimit(h *history) {
	limit := modelLimits[w.pick(len(modelLimits), "limit")]
	// No limit in between may hide that the last one is lower than the first.
	lower := limit == 0 || h.key.RateLimitPerHour == 0 || limit < max(h.lastLimit, h.key.RateLimitPerHour)
	settled := w.holding == nil && h.unsaved == 0 && !h.owes(w.millis(w.now)) && (h.savedLimit >= h.lastLimit || !h.kept && h.lastLimit == 0)
	if lower && !settled {
		return
	}
	changed := *h.key
	changed.RateLimitPerHour = limit
	h.key = &changed
}

func (w *world) sweep() {
	if w.holding != nil {
		return
	}
	w.limiter.SweepAll(w.reading(w.now))
	for _, h := range w.keys {
		if !h.dirty {
			// A later reading than those of calls that are late has come.
			h.latest = max(h.latest, w.now+w.ahead)
		}
		h.reclaim(w.millis(w.now), w.stops)
	}
}

func (w *world) stopCleanly() {
	if w.holding != nil {
		w.release(w.outcome(3))
	}
	w.tally.restarts++
	w.journal.next = w.outcome(5)
	err := w.limiter.Close(w.ctx)
	if (err == nil) != (w.journal.next == succeeds) {
		w.Fatalf("closing: %v", err)
	}
	w.running = w.running && !w.kept
	if _, err := w.limiter.Spend(w.ctx, &apikey.Key{ID: 1, RateLimitPerHour: 1}, w.reading(w.now)); err == nil {
		w.Fatalf("a closed limiter spends")
	}
	w.restartAfter(w.kept)
}

func (w *world) crash() {
	recent := 0
	for _, stop := range w.stops {
		if stop.at+2*hourMillis > w.millis(w.now) {
			recent++
		}
	}
	if recent > 50 {
		return // more are not listed one by one
	}
	w.tally.crashes++
	if w.holding != nil {
		w.release([]outcome{fails, failsKept}[w.pick(2, "the last save")])
	}
	w.restartAfter(false)
}

// restartAfter lets the service be down for a while, in which the wall clock
// may be set.
func (w *world) restartAfter(clean bool) {
	if w.pick(2, "down for long") == 0 {
		w.passTime()
	} else {
		w.now += rapid.Int64Range(0, int64(time.Second)).Draw(w.T, "down for")
	}
	if w.pick(4, "clock set while down") == 0 {
		w.setWall()
	}
	w.start(clean)
}
