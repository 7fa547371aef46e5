package admin

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// A throttle counts failed logins of each account and each address. At
// maxFailures within a window that opens at the first failure, further logins
// are refused until the window closes, before anything is hashed.
//
// Its memory is fixed: a counter goes to one of a few places, and takes the
// place of the lowest count there when all are in use. Whoever would push a
// counter out must therefore fail more often than it says, from as many
// addresses.
type throttle struct {
	mutex   sync.Mutex
	seed    maphash.Seed
	buckets [throttleBuckets][throttleWays]attempts
}

type attempts struct {
	tag    uint64
	opened time.Time
	count  int
}

const (
	throttleBuckets = 4096
	throttleWays    = 4
	maxFailures     = 10
	throttleWindow  = 5 * time.Minute
)

func newThrottle() *throttle { return &throttle{seed: maphash.MakeSeed()} }

// accountTag and addressTag name what is counted.
func (t *throttle) accountTag(login string) uint64 {
	return maphash.String(t.seed, "account\x00"+login)
}

// addressTag counts an IPv6 address by its /64, the least that one customer
// gets.
func (t *throttle) addressTag(addr netip.Addr) uint64 {
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			addr = prefix.Addr()
		}
	}
	return maphash.String(t.seed, "address\x00"+addr.String())
}

// take counts an attempt against every tag, as if it had failed, or against
// none and returns how long to wait. An attempt that did not fail is given
// back. Counting first is what makes parallel guesses count.
func (t *throttle) take(now time.Time, tags ...uint64) (wait time.Duration, allowed bool) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, tag := range tags {
		if entry := t.find(tag); entry != nil && entry.count >= maxFailures {
			if left := entry.opened.Add(throttleWindow).Sub(now); left > 0 {
				wait = max(wait, left)
			}
		}
	}
	if wait > 0 {
		return wait, false
	}
	for _, tag := range tags {
		entry := t.place(tag, now)
		entry.count++
	}
	return 0, true
}

// giveBack forgets one attempt.
func (t *throttle) giveBack(tags ...uint64) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, tag := range tags {
		if entry := t.find(tag); entry != nil && entry.count > 0 {
			entry.count--
		}
	}
}

func (t *throttle) bucket(tag uint64) *[throttleWays]attempts {
	return &t.buckets[tag%throttleBuckets]
}

func (t *throttle) find(tag uint64) *attempts {
	bucket := t.bucket(tag)
	for i := range bucket {
		if bucket[i].tag == tag && !bucket[i].opened.IsZero() {
			return &bucket[i]
		}
	}
	return nil
}

// place returns the live entry of tag, or a new one in the place of one whose
// window closed, or else of the one with the fewest attempts.
func (t *throttle) place(tag uint64, now time.Time) *attempts {
	bucket := t.bucket(tag)
	victim := &bucket[0]
	for i := range bucket {
		entry := &bucket[i]
		closed := now.Sub(entry.opened) >= throttleWindow
		if closed {
			entry.count = 0
		}
		if entry.tag == tag && !entry.opened.IsZero() {
			if entry.count == 0 {
				entry.opened = now
			}
			return entry
		}
		if entry.count < victim.count {
			victim = entry
		}
	}
	*victim = attempts{tag: tag, opened: now}
	return victim
}
