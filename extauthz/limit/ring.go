package limit

import (
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// All times in this file are whole milliseconds of the limiter's clock.
const (
	minute = 60_000
	hour   = 60 * minute
	// slots is how many minutes can hold tokens that are out: any 60 minutes
	// touch at most 61 minutes of the clock.
	slots = 61
	// maxExact is the largest limit whose calls are noted one by one.
	maxExact = 64
)

// form says what the cells of a ring hold.
type form uint8

const (
	// stamps: each cell is the time of one call in milliseconds, rounded to
	// the next one and cut to 32 bits, sorted from first on.
	stamps form = iota
	// minutes: cell m%61 is the number of tokens spent in minute m.
	minutes
)

// A ring holds the tokens of one key that are out.
//
// Why minutes never let more than N calls into 60 minutes: let a and t be the
// times of the first and the last call of some closed span of 60 minutes, and
// m(x) the minute of x. Then t <= a + 60 min, so m(t) <= m(a) + 60. A minute's
// tokens return when the current minute is 61 ahead, so all that was spent
// from minute m(t)-60 <= m(a) on is still out at t: every call of the span is,
// and they are at most N, for the last was only allowed below N.
//
// Why stamps do not: a call in millisecond k (from k up to but excluding k+1)
// is noted as k+1 and returns once the clock shows k+1+3,600,000, which is
// more than 60 minutes after the call, so all calls of a closed span of 60
// minutes are out at its last.
//
// Both hold for calls in the order in which the ring saw them. A reading older
// than seen counts as seen: that is a moment which had come when the call was
// decided.
type ring struct {
	key     apikey.KeyID
	seen    int64  // latest reading of the clock
	out     uint64 // tokens that are out: the sum of minutes, or the number of stamps
	seq     uint32 // calls noted since the process started, modulo 2^32
	saved   uint32 // as many of them are saved
	settled uint32 // number of the last unclean stop the key paid for
	limit   uint32 // the limit with which the last token was spent
	first   uint32 // the oldest minute with tokens, or the cell of the oldest stamp
	form    form
	used    bool
	kept    bool // the journal has a record of it
	dirty   bool // in its shard's list of rings to save
	saving  bool // part of a save under way
	cells   [maxExact]uint32
}

func minuteOf(at int64) uint32 { return uint32(at / minute) }

// advance moves the ring to now and takes back the tokens that returned.
func (r *ring) advance(now int64) {
	if now <= r.seen {
		return
	}
	// Nothing stays out for two hours; this also keeps the distance between
	// 32-bit stamps unambiguous.
	if now-r.seen > 2*hour {
		r.clear()
	}
	r.seen = now
	if r.form == stamps {
		for r.out > 0 && int32(uint32(now)-r.cells[r.first]) >= hour {
			r.first = (r.first + 1) % maxExact
			r.out--
		}
		return
	}
	for r.out > 0 && minuteOf(now)-r.first >= slots {
		cell := &r.cells[r.first%slots]
		r.out -= uint64(*cell)
		*cell = 0
		if r.out > 0 {
			r.skipEmpty()
		}
	}
}

// skipEmpty moves first to the next minute with tokens, of which there is one.
func (r *ring) skipEmpty() {
	for r.cells[r.first%slots] == 0 {
		r.first++
	}
}

func (r *ring) clear() {
	r.out, r.first, r.cells = 0, 0, [maxExact]uint32{}
}

// shape gives the ring the form for a limit. Tokens that are out return when
// they would have, or later. A ring that holds too much for stamps keeps its
// minutes until it does not. It reports whether any return later.
func (r *ring) shape(limit uint32) (later bool) {
	if limit > maxExact {
		if r.form == stamps {
			r.toMinutes()
			return r.out > 0
		}
	} else if r.form == minutes && r.out <= maxExact {
		r.toStamps()
	}
	return false
}

func (r *ring) toMinutes() {
	old := *r
	r.clear()
	r.form = minutes
	for i := range uint32(old.out) {
		r.addMinute(minuteOf(old.stamp(i)-1), 1)
	}
}

func (r *ring) toStamps() {
	old := *r
	r.clear()
	r.form = stamps
	for m := old.first; r.out < old.out; m++ {
		// A stamp at the end of the minute returns when the minute did.
		for range old.cells[m%slots] {
			r.cells[r.out] = (m + 1) * minute
			r.out++
		}
	}
}

// stamp returns the i-th oldest stamp in full.
func (r *ring) stamp(i uint32) int64 {
	return r.seen + int64(int32(r.cells[(r.first+i)%maxExact]-uint32(r.seen)))
}

// add notes n tokens as spent at a time not later than seen.
func (r *ring) add(at int64, n uint32) {
	if r.form == stamps && r.out+uint64(n) > maxExact {
		r.toMinutes()
	}
	if r.form == minutes {
		r.addMinute(minuteOf(at), n)
		return
	}
	for range n {
		r.addStamp(at + 1)
	}
}

func (r *ring) addMinute(m, n uint32) {
	if n == 0 || minuteOf(r.seen)-m >= slots {
		return
	}
	cell := &r.cells[m%slots]
	// More tokens than any limit has must not wrap around; that many deny
	// every call until the minute returns, as more would.
	if n > ^uint32(0)-*cell {
		n = ^uint32(0) - *cell
	}
	*cell += n
	if r.out == 0 || m < r.first {
		r.first = m
	}
	r.out += uint64(n)
}

// addStamp keeps the stamps sorted. Only a charge for a crash, or minutes that
// became stamps, make it move any.
func (r *ring) addStamp(at int64) {
	if r.seen-at >= hour {
		return
	}
	i := uint32(r.out)
	for ; i > 0 && r.stamp(i-1) > at; i-- {
		r.cells[(r.first+i)%maxExact] = r.cells[(r.first+i-1)%maxExact]
	}
	r.cells[(r.first+i)%maxExact] = uint32(at)
	r.out++
}

// returns gives the time at which the oldest token that is out returns.
func (r *ring) returns() int64 {
	if r.form == stamps {
		return r.stamp(0) + hour
	}
	return int64(r.first+slots) * minute
}

// below gives the time at which fewer than limit tokens will be out; more are
// out now, or as many.
func (r *ring) below(limit uint32) int64 {
	excess := r.out - uint64(limit)
	if r.form == stamps {
		return r.stamp(uint32(excess)) + hour
	}
	m := r.first
	for ; ; m++ {
		n := uint64(r.cells[m%slots])
		if n > excess {
			return int64(m+slots) * minute
		}
		excess -= n
	}
}

// left returns how many tokens are left of a limit.
func (r *ring) left(limit uint32) uint32 {
	if r.out >= uint64(limit) {
		return 0
	}
	return limit - uint32(r.out)
}

// wait returns how long until n tokens, of which fewer are left now, can be
// spent.
func (r *ring) wait(limit, n uint32) time.Duration {
	if n > limit { // they never can
		return time.Hour
	}
	return time.Duration(r.below(limit-n+1)-r.seen) * time.Millisecond
}

// appendDue appends what is out, soonest first.
func (r *ring) appendDue(due []Due) []Due {
	if r.form == stamps {
		for i := range uint32(r.out) {
			at := r.stamp(i) + hour
			if n := len(due); n > 0 && i > 0 && due[n-1].At == at {
				due[n-1].Tokens++
				continue
			}
			due = append(due, Due{At: at, Tokens: 1})
		}
		return due
	}
	left := r.out
	for m := r.first; left > 0; m++ {
		if n := r.cells[m%slots]; n > 0 {
			due = append(due, Due{At: int64(m+slots) * minute, Tokens: n})
			left -= uint64(n)
		}
	}
	return due
}

// restore fills an empty ring with what a journal kept of it.
func (r *ring) restore(record *Record, now int64) {
	r.key, r.seen, r.settled, r.limit, r.kept = record.Key, now, record.Settled, record.Limit, true
	// No token is out for longer; a later time could only come from a journal
	// whose clock is wrong.
	latest := int64(minuteOf(now)+slots) * minute
	for _, due := range record.Due {
		// The minute of a stamp, and the minute itself of a minute.
		r.add(min(due.At, latest)-hour-1, due.Tokens)
	}
}
