package limit_test

import (
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// token is one spent token and when it is promised back, in milliseconds of
// the limiter's clock.
type token struct{ spent, back int64 }

const (
	minuteMillis = int64(time.Minute / time.Millisecond)
	hourMillis   = 60 * minuteMillis
)

// byTheMinute is the promise for limits above 64: a minute's tokens come back
// when all of the minute is over 60 minutes old.
func byTheMinute(spent int64) int64 {
	endOfMinute := spent - spent%minuteMillis + minuteMillis
	return endOfMinute + hourMillis
}

// byTheCall is the promise for limits up to 64.
func byTheCall(spent int64) int64 { return spent + 1 + hourMillis }

// history is all that happened to one key, token by token, and what the
// package promises to follow from it. It knows nothing of rings.
type history struct {
	key        *apikey.Key
	tokens     []token
	minutes    bool   // tokens now come back by the minute
	seen       int64  // latest reading that the key saw
	lastLimit  uint32 // with which a token was last spent
	kept       bool   // the journal knows the key
	pending    []stop // unclean stops it has not paid for
	unsaved    int    // calls that the journal does not know
	dirty      bool   // there is something to save
	savedLimit uint32 // lastLimit in the journal
	// Of a save under way: what it holds of the above.
	savingCalls int
	savingAny   bool
	savingLimit uint32

	admitted []int64 // when calls passed, in nanoseconds, for the last 60 minutes
	latest   int64   // latest call, in nanoseconds
}

type stop struct {
	at   int64 // in milliseconds of the limiter's clock
	wall int64 // latest that the wall clock had shown, in milliseconds
}

func q(limit uint32) int { return max(1, int(limit/64)) }

// look brings the history to a time, as a call with a limit does, and returns
// how many tokens are out.
func (h *history) look(at int64) int {
	h.seen = max(h.seen, at)
	h.tokens = slices.DeleteFunc(h.tokens, func(t token) bool { return t.back <= h.seen })
	n := h.key.RateLimitPerHour
	switch {
	case n > 64:
		h.dirty = h.dirty || !h.minutes && len(h.tokens) > 0
		h.goByTheMinute()
	case h.minutes && len(h.tokens) <= 64:
		h.minutes = false // what is out keeps its time
	}
	for _, stop := range h.pending {
		if h.seen > stop.at+hourMillis || (!h.kept && h.key.CreatedAt.UnixMilli() > stop.wall) {
			continue
		}
		for range q(max(n, h.lastLimit)) {
			h.spend(stop.at)
		}
	}
	h.dirty = h.dirty || len(h.pending) > 0
	h.pending = nil
	h.tokens = slices.DeleteFunc(h.tokens, func(t token) bool { return t.back <= h.seen })
	return len(h.tokens)
}

func (h *history) goByTheMinute() {
	for i := range h.tokens {
		h.tokens[i].back = byTheMinute(h.tokens[i].back - hourMillis - 1)
	}
	h.minutes = true
}

func (h *history) spend(at int64) {
	if !h.minutes && len(h.tokens) == 64 {
		h.goByTheMinute()
	}
	back := byTheCall(at)
	if h.minutes {
		back = byTheMinute(at)
	}
	h.tokens = append(h.tokens, token{at, back})
}

// nextBack returns when the n-th token to come back does.
func (h *history) nextBack(n int) int64 {
	times := make([]int64, len(h.tokens))
	for i, t := range h.tokens {
		times[i] = t.back
	}
	slices.Sort(times)
	return times[n]
}

// expect is what Spend, or Peek, must answer to a call of cost tokens; spends
// says whether it is Spend, which takes them.
func (h *history) expect(cost int, spends bool, reading int64) limit.Result {
	n := int(h.key.RateLimitPerHour)
	if n == 0 {
		return limit.Result{Allowed: true}
	}
	out := h.look(reading)
	result := limit.Result{Limit: uint32(n), Remaining: uint32(max(n-out, 0)), Allowed: out+cost <= n}
	if !result.Allowed {
		result.Reset = time.Hour
		if cost <= n {
			result.Reset = time.Duration(h.nextBack(out+cost-n-1)-h.seen) * time.Millisecond
		}
		return result
	}
	if spends {
		for range cost {
			h.spend(h.seen)
		}
		h.lastLimit, h.dirty = uint32(n), true
		out += cost
		result.Remaining = uint32(n - out)
	}
	if out > 0 {
		result.Reset = time.Duration(h.nextBack(0)-h.seen) * time.Millisecond
	}
	return result
}

// clone is for looking without consequences.
func (h *history) clone() *history {
	c := *h
	c.tokens, c.pending = slices.Clone(h.tokens), slices.Clone(h.pending)
	return &c
}

// admit notes that a call passed and returns how many did in the closed 60
// minutes that end with it. This is the log that the limit is checked against:
// it knows nothing of tokens.
func (h *history) admit(at int64) int {
	h.admitted = append(h.admitted, at)
	first := 0
	for h.admitted[first] < at-int64(time.Hour) {
		first++
	}
	h.admitted = h.admitted[first:]
	return len(h.admitted)
}

// saving and saved frame a save.
func (h *history) saving() {
	h.savingCalls, h.savingAny, h.savingLimit = h.unsaved, h.dirty, h.lastLimit
	h.dirty = false
}

func (h *history) saved(told bool) {
	if !told {
		h.dirty = h.dirty || h.savingAny
		return
	}
	h.unsaved -= h.savingCalls
	if h.savingAny {
		h.kept, h.savedLimit = true, h.savingLimit
	}
}

// owes reports whether the key may yet have to pay for an unclean stop.
func (h *history) owes(at int64) bool {
	return slices.ContainsFunc(h.pending, func(s stop) bool { return at <= s.at+hourMillis })
}

// backs returns when what is out at a time comes back, latest first.
func (h *history) backs(at int64) []int64 {
	var backs []int64
	for _, t := range h.tokens {
		if t.back > at {
			backs = append(backs, t.back)
		}
	}
	slices.Sort(backs)
	slices.Reverse(backs)
	return backs
}

// restart makes the history what the journal kept of it; stopped and started
// are the limiter's times of both. It returns a complaint where the journal
// kept tokens that never were, or lost some although the stop was clean.
func (h *history) restart(record *limit.Record, stops []stop, clean bool, stopped, started int64) (complaint string) {
	had := h.backs(stopped)
	*h = history{key: h.key, admitted: h.admitted, latest: h.latest, pending: stops}
	if record != nil {
		h.kept, h.lastLimit, h.savedLimit = true, record.Limit, record.Limit
		h.pending = stops[min(int(record.Settled), len(stops)):]
		for _, due := range record.Due {
			for range due.Tokens {
				h.tokens = append(h.tokens, token{back: due.At})
			}
		}
		h.minutes = len(h.tokens) > 64
	}
	has := h.backs(stopped)
	for i := range has {
		// What was saved may since have got a later time, by the minute.
		if i >= len(had) || has[i] > had[i] {
			complaint = "the journal kept tokens that were not out"
		}
	}
	if clean && !slices.Equal(had, has) {
		complaint = "a clean stop lost tokens"
	}
	if len(h.backs(started)) == 0 && !h.owes(started) {
		h.kept, h.lastLimit, h.savedLimit, h.pending = false, 0, 0, stops
	}
	return complaint
}

// reclaim is what a sweep does: it looks at each key with nothing to save, and
// forgets those of which there is nothing to remember.
func (h *history) reclaim(at int64, stops []stop) {
	if h.dirty {
		return
	}
	h.seen = max(h.seen, at)
	if len(h.backs(h.seen)) == 0 && !h.owes(h.seen) {
		*h = history{key: h.key, admitted: h.admitted, latest: h.latest, pending: stops}
	}
}
