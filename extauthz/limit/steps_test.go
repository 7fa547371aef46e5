package limit_test

import (
	"context"
	"sync"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
	"pgregory.net/rapid"
)

// spend makes one call of one token, see spendCost.
func (w *world) spend(h *history, late int64, waits bool) bool { return w.spendCost(h, 1, late, waits) }

// aCost draws how many tokens a call takes: mostly one, at times about the
// limit, or more than it.
func (w *world) aCost(h *history) int {
	n := int(h.key.RateLimitPerHour)
	switch w.pick(8, "cost") {
	case 0:
		return rapid.IntRange(2, 5).Draw(w.T, "a few tokens")
	case 1:
		return rapid.IntRange(1, max(1, min(n, 3000)/2)).Draw(w.T, "part of the limit")
	case 2:
		return rapid.IntRange(max(1, min(n, 3000)-2), min(n, 3000)+2).Draw(w.T, "about the limit")
	}
	return 1
}

// spendCost makes one call, with a reading that is late nanoseconds old, and
// reports whether it passed.
func (w *world) spendCost(h *history, cost int, late int64, waits bool) bool {
	w.tally.calls++
	n := h.key.RateLimitPerHour
	ctx := hopeless(w.ctx)
	if waits {
		w.journal.next = w.outcome(10)
		defer func() { w.journal.next = succeeds }()
		ctx = newSavingContext(w.ctx, func() error { return w.limiter.Save(w.ctx) })
	}
	unsaved, isNew := h.unsaved, !h.kept && h.key.CreatedAt.UnixMilli() > w.told
	mustWait := unsaved+cost > q(n) || isNew
	wasTold := false
	if waits {
		inner := w.journal.saved
		w.journal.saved = func(kept, told bool) { inner(kept, told); wasTold = wasTold || told }
		defer func() { w.journal.saved = inner }()
	}
	result, err := w.limiter.Spend(ctx, h.key, uint32(cost), w.reading(w.now-late))
	want := h.expect(cost, true, w.millis(w.now-late))
	spent := want.Allowed && n > 0
	w.check(h, "spend", result, want, err)
	if spent {
		h.unsaved += cost
		if wasTold {
			h.unsaved, h.dirty, h.kept, h.savedLimit = 0, false, true, n
		}
		if (err != nil) != (mustWait && !wasTold) {
			w.Fatalf("key %d of limit %d with %d calls unsaved, new: %v: error %v", h.key.ID, n, unsaved, isNew, err)
		}
	}
	if result.Allowed && n > 0 {
		for range cost {
			w.passed(h, w.now-late)
		}
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
				result, err := w.limiter.Spend(ctx, h.key, 1, now)
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
		if h.expect(1, true, w.millis(w.now)).Allowed {
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
	cost := w.aCost(h)
	got := w.limiter.Peek(h.key, uint32(cost), w.reading(w.now))
	w.check(h, "peek", got, h.clone().expect(cost, false, w.millis(w.now)), nil)
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
	if _, err := w.limiter.Spend(w.ctx, &apikey.Key{ID: 1, RateLimitPerHour: 1}, 1, w.reading(w.now)); err == nil {
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
