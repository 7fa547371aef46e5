package scale

import "time"

// hour is the window of a limit.
const hour = int64(time.Hour / time.Millisecond)

// Ledger is the exact log of the allowed calls of the last hour, by key.
type Ledger struct {
	keys map[int64]*account
	// Over counts calls that were allowed though that made more than the
	// limit in 60 minutes.
	Over int64
	// Allowed and Denied count all calls that were decided.
	Allowed, Denied int64
	// Early counts calls that were denied though fewer than the limit had been
	// allowed in the 60 minutes before, and Wrong those of which fewer than
	// 0.98 of it had in the last 62.
	Early, Wrong int64
}

// account lists when calls were allowed, in milliseconds, the oldest first.
type account struct {
	times []int64
	head  int
}

// NewLedger returns one without calls.
func NewLedger() *Ledger { return &Ledger{keys: map[int64]*account{}} }

// slack is for how much longer than an hour tokens may be out: a minute to the
// end of the lease, and one until its slot is over.
const slack = 2 * int64(time.Minute/time.Millisecond)

func (l *Ledger) account(key, now int64) *account {
	a := l.keys[key]
	if a == nil {
		a = &account{}
		l.keys[key] = a
	}
	for a.head < len(a.times) && a.times[a.head] <= now-hour-slack {
		a.head++
	}
	if a.head > 1024 && a.head > len(a.times)/2 {
		a.times = a.times[:copy(a.times, a.times[a.head:])]
		a.head = 0
	}
	return a
}

// since returns how many calls were allowed after a time.
func (a *account) since(t int64) int {
	low, high := a.head, len(a.times)
	for low < high {
		if middle := (low + high) / 2; a.times[middle] <= t {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return len(a.times) - low
}

// Note enters what became of a call at a time in milliseconds, which is not
// before that of any other.
func (l *Ledger) Note(key, now int64, limit uint32, allowed bool) {
	a := l.account(key, now)
	if allowed {
		l.Allowed++
		a.times = append(a.times, now)
		if a.since(now-hour) > int(limit) {
			l.Over++
		}
		return
	}
	l.Denied++
	if a.since(now-hour) < int(limit) {
		l.Early++
		if float64(a.since(now-hour-slack)) < 0.98*float64(limit) {
			l.Wrong++
		}
	}
}
