package lease

import (
	"slices"
	"time"
)

const (
	minute = 60_000 // milliseconds
	// slots is how many minutes can hold tokens that are out, up to the
	// present one: any 60 minutes touch at most 61 minutes of the clock.
	slots = 61
	// heldLonger is for how many milliseconds after its end tokens of a lease
	// may be given back.
	heldLonger = 60_000
)

// Account is all that an engine keeps of one key. The zero Account is that of
// a key of which nothing is known. An engine may forget an account
// [AccountLife] after its last exchange.
//
// Its fields are for engines that store it.
type Account struct {
	Time       int64  // of the last exchange, in milliseconds of the engine's clock
	Total      uint64 // tokens ever leased
	Generation string // of the engine at the last exchange
	Slots      []Slot // oldest first
	Held       []Held
}

// AccountLife is for how long an account without exchanges must be kept. It is
// more than the 62 minutes for which a token may be out, so that clocks may
// differ.
const AccountLife = 2 * time.Hour

// Slot is how many tokens return together, when the whole minute is more than
// 60 minutes old.
type Slot struct {
	Minute int64
	Tokens uint32
}

// Held is a lease whose tokens may be given back.
type Held struct {
	Lease  ID
	Minute int64 // of the slot that was charged
	Until  int64
	Tokens uint32
}

// Clone returns a copy that shares nothing with a.
func (a *Account) Clone() Account {
	clone := *a
	clone.Slots, clone.Held = slices.Clone(a.Slots), slices.Clone(a.Held)
	return clone
}

// Exchange carries out a request at a time of the engine's clock, in
// milliseconds. generation names the engine's present run: whatever may have
// lost exchanges has a new one.
func (a *Account) Exchange(r *Request, now int64, generation string) Grant {
	unknown := a.Time == 0
	clock, begin := now, now // begin is that of leases, as far as charging them goes
	if r.Farthest > 0 {
		begin = min(begin, r.Farthest)
	}
	if r.Latest > 0 {
		now = min(now, r.Latest)
	}
	now = max(now, a.Time)
	begin = max(begin, now)
	a.Time = now
	a.forgetReturned(now)
	for _, back := range r.Back {
		a.takeBack(back)
	}
	charged := a.charge(r, generation, unknown, begin)
	a.Generation = generation

	left := a.left(r.Limit)
	tokens := min(r.Tokens, left)
	if tokens > 0 {
		end := begin + r.Span.Milliseconds()
		a.add(end/minute, tokens)
		a.Held = append(a.Held, Held{Lease: r.Lease, Minute: end / minute, Until: end + heldLonger, Tokens: tokens})
		a.Total += uint64(tokens)
	}
	return Grant{Tokens: tokens, Left: left - tokens, Reset: a.reset(r.Limit, now), Total: a.Total, Time: clock, Charged: charged}
}

// charge makes the key pay for what the engine forgot or may have forgotten.
func (a *Account) charge(r *Request, generation string, unknown bool, begin int64) uint32 {
	q := uint64(max(1, r.Limit/64))
	var amount uint64
	switch {
	case unknown && r.Seen > 0:
		amount = uint64(r.Limit)
	case a.Total < r.Seen:
		amount = r.Seen - a.Total + q
	case !unknown && a.Generation != generation && len(a.Slots) > 0:
		amount = q
	}
	a.Total = max(a.Total, r.Seen)
	charged := uint32(min(amount, uint64(a.left(r.Limit))))
	if charged > 0 {
		a.add((begin+MaxSpan.Milliseconds())/minute, charged)
	}
	return charged
}

func (a *Account) forgetReturned(now int64) {
	a.Slots = slices.DeleteFunc(a.Slots, func(s Slot) bool { return now/minute-s.Minute >= slots || s.Tokens == 0 })
	a.Held = slices.DeleteFunc(a.Held, func(h Held) bool { return h.Until < now })
}

func (a *Account) takeBack(back Back) {
	i := slices.IndexFunc(a.Held, func(h Held) bool { return h.Lease == back.Lease })
	if i < 0 {
		return
	}
	held := a.Held[i]
	a.Held = slices.Delete(a.Held, i, i+1)
	for j := range a.Slots {
		if a.Slots[j].Minute == held.Minute {
			a.Slots[j].Tokens -= min(back.Unused, held.Tokens)
		}
	}
}

func (a *Account) add(m int64, tokens uint32) {
	i := len(a.Slots)
	for i > 0 && a.Slots[i-1].Minute >= m {
		i--
	}
	if i < len(a.Slots) && a.Slots[i].Minute == m {
		a.Slots[i].Tokens += tokens
		return
	}
	a.Slots = slices.Insert(a.Slots, i, Slot{m, tokens})
}

func (a *Account) out() (sum uint64) {
	for _, s := range a.Slots {
		sum += uint64(s.Tokens)
	}
	return sum
}

func (a *Account) left(limit uint32) uint32 {
	return uint32(uint64(limit) - min(a.out(), uint64(limit)))
}

// reset returns how long until more of the limit is left than now.
func (a *Account) reset(limit uint32, now int64) time.Duration {
	out := a.out()
	for _, s := range a.Slots {
		if s.Tokens == 0 {
			continue
		}
		if out -= uint64(s.Tokens); out < uint64(limit) {
			return time.Duration((s.Minute+slots)*minute-now) * time.Millisecond
		}
	}
	return 0
}
