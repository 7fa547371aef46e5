package block

import (
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Remote is what others know of an address.
type Remote struct {
	Prefix netip.Prefix // an IPv4 address or an IPv6 /64
	// Age is how long ago its window opened.
	Age      time.Duration
	Failures uint32
	Reason   apikey.Reason // of the last failure
	Blocked  bool
	// BlockedAgo is how long ago it was blocked.
	BlockedAgo time.Duration
}

// Adopt takes over what others know of an address, and reports whether it
// blocked it. What they know of a block replaces what is known here; failures
// are the most that either knows of. counted says that a failure just now,
// which r includes, was seen here too, so that those counted here alone grow
// by it.
func (t *Table) Adopt(r Remote, counted bool, now time.Time) (blockedNow bool) {
	if !r.Prefix.IsValid() {
		return false
	}
	id := idOf(apikey.CanonicalAddress(r.Prefix.Addr()))
	hash := t.hasher.hash(id)
	s := t.shardOf(hash)
	s.mu.Lock()
	at := s.advance(t.clock.at(now))
	opened := at - max(0, r.Age.Milliseconds())
	if at-opened >= t.window {
		s.mu.Unlock()
		return false
	}
	e, place := t.entryOf(s, id, hash, at)
	if e == nil {
		s.mu.Unlock()
		return false
	}
	failures := e.failures
	if counted && !e.blocked { // else it was heard of before it was answered
		failures++
	}
	if r.Blocked || r.Failures >= failures && !e.blocked {
		s.unlink(place)
		e.opened = opened
		s.link(place)
	}
	e.failures, e.reason = max(failures, r.Failures), r.Reason
	if !e.blocked && (r.Blocked || e.failures >= t.threshold) {
		e.since = uint32(min(t.window, max(0, at-e.opened-r.BlockedAgo.Milliseconds()))) //nolint:gosec // a window is at most a day
		s.block(place)
		blockedNow = true
	}
	t.noted(s, place, blockedNow)
	return blockedNow
}

// entryOf returns the entry of an address, a new one where there is none, or nil
// where there is no room. The shard must be locked.
func (t *Table) entryOf(s *shard, i id, hash uint64, at int64) (*entry, uint32) {
	e, place := s.find(i, hash)
	if e != nil {
		return e, place
	}
	e, place, evicted := s.open(i, hash, at)
	if e == nil {
		t.counts.refused.Add(1)
	}
	if evicted {
		t.counts.evicted.Add(1)
	}
	return e, place
}

// noted has an entry saved that was changed, at once where that blocked its
// address, and unlocks its shard.
func (t *Table) noted(s *shard, place uint32, blockedNow bool) {
	if t.journal != nil {
		s.markDirty(place, blockedNow)
	}
	s.mu.Unlock()
	if blockedNow {
		t.counts.blocks.Add(1)
		t.saver.kick()
	}
}

// Exempt reports whether an address is one that is never blocked.
func (t *Table) Exempt(addr netip.Addr) bool { return t.exempt(apikey.CanonicalAddress(addr)) }

// PrefixOf returns what is blocked with an address: itself, or the /64 of an
// IPv6 address.
func PrefixOf(addr netip.Addr) netip.Prefix { return idOf(apikey.CanonicalAddress(addr)).prefix() }
