package block

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// What [Options] stand for where they are zero.
const (
	DefaultCapacity  = 1 << 20
	DefaultThreshold = 10
	DefaultWindow    = 5 * time.Minute
)

// Options say how a [Table] works. The zero Options keep everything in memory
// only.
type Options struct {
	// Journal keeps blocks and windows across restarts. Nil: nothing does.
	Journal Journal
	// Capacity is how many addresses are remembered at once, about 50 bytes
	// each; it is rounded up to a multiple of 256. Zero: [DefaultCapacity].
	Capacity int
	// Threshold is how many failures block an address. Zero:
	// [DefaultThreshold].
	Threshold int
	// Window is how long failures are remembered, in whole milliseconds, at
	// most a day. Zero: [DefaultWindow].
	Window time.Duration
	// Never lists addresses that are not blocked whatever they do. Each call
	// looks through all of it, so it should be short.
	Never []netip.Prefix
	// Interval is how often windows are saved. Zero: a second.
	Interval time.Duration
	// Logger hears of saves that begin to fail, and work again. Nil:
	// [slog.Default].
	Logger *slog.Logger
	// Now is the clock, whose readings must carry a monotonic part like those
	// of [time.Now]. Nil: time.Now.
	Now func() time.Time
}

// Entry is a blocked address.
type Entry struct {
	// Prefix is a single IPv4 address or an IPv6 /64.
	Prefix netip.Prefix
	// Since is when it was blocked, by the wall clock as it now is.
	Since time.Time
	// Left is how long it stays blocked.
	Left time.Duration
	// Failures counts those of the window, calls of [Table.Failed] while
	// blocked included.
	Failures uint32
	// LastReason is that of the last failure.
	LastReason apikey.Reason
}

// Table remembers failures and blocks. It is safe for concurrent use.
type Table struct {
	clock     clock
	journal   Journal
	threshold uint32
	window    int64 // milliseconds
	never     atomic.Pointer[[]netip.Prefix]
	interval  time.Duration
	logger    *slog.Logger
	now       func() time.Time
	hasher    hasher
	closed    atomic.Bool
	stop      chan struct{} // closed by Close
	saver     *saver
	counts    counts
	shards    [shardCount]shard
}

// New returns a table that continues where its journal left off. A journal
// that cannot be read, or written, is an error.
func New(ctx context.Context, o Options) (*Table, error) {
	if o.Capacity < 0 || o.Capacity > math.MaxInt32 || o.Threshold < 0 || o.Threshold > math.MaxInt32 || o.Interval < 0 {
		return nil, errors.New("block table: expected a Capacity, Threshold and Interval of at least 0, and below 2^31")
	}
	if o.Window < 0 || o.Window > 24*time.Hour || o.Window%time.Millisecond != 0 {
		return nil, errors.New("block table: expected a Window of whole milliseconds, at most a day")
	}
	t := &Table{
		journal:   o.Journal,
		threshold: uint32(o.Threshold),
		window:    o.Window.Milliseconds(),
		interval:  o.Interval,
		logger:    o.Logger,
		now:       o.Now,
		hasher:    newHasher(),
		stop:      make(chan struct{}),
		saver:     newSaver(),
	}
	if err := t.SetNever(o.Never); err != nil {
		return nil, err
	}
	capacity := o.Capacity
	if capacity == 0 {
		capacity = DefaultCapacity
	}
	if t.threshold == 0 {
		t.threshold = DefaultThreshold
	}
	if t.window == 0 {
		t.window = DefaultWindow.Milliseconds()
	}
	if t.interval == 0 {
		t.interval = time.Second
	}
	if t.logger == nil {
		t.logger = slog.Default()
	}
	if t.now == nil {
		t.now = time.Now
	}
	for i := range t.shards {
		t.shards[i].init((capacity+shardCount-1)/shardCount, t.hasher, t.window)
	}
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// SetNever changes what [Options] said of Never, for calls that begin
// afterwards. A block that stands is not lifted, but holds for none of these
// addresses.
func (t *Table) SetNever(prefixes []netip.Prefix) error {
	never := make([]netip.Prefix, len(prefixes))
	for i, prefix := range prefixes {
		canonical, err := canonicalPrefix(prefix)
		if err != nil {
			return fmt.Errorf("block table: Never: %w", err)
		}
		never[i] = canonical
	}
	t.never.Store(&never)
	return nil
}

// canonicalPrefix turns an IPv4-mapped prefix into an IPv4 one.
func canonicalPrefix(prefix netip.Prefix) (netip.Prefix, error) {
	if prefix.IsValid() && prefix.Addr().Is4In6() {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	if !prefix.IsValid() {
		return prefix, errors.New("expected valid address prefixes")
	}
	return prefix.Masked(), nil
}

func (t *Table) exempt(addr netip.Addr) bool {
	for _, prefix := range *t.never.Load() {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Blocked reports whether an address is blocked and for how long it stays so.
// now is a reading of the clock.
func (t *Table) Blocked(addr netip.Addr, now time.Time) (time.Duration, bool) {
	if !addr.IsValid() {
		t.counts.unknown.Add(1)
		return 0, false
	}
	addr = apikey.CanonicalAddress(addr)
	id := idOf(addr)
	hash := t.hasher.hash(id)
	s := t.shardOf(hash)
	if s.blockedNow.Load() == 0 {
		return 0, false
	}
	s.mu.Lock()
	at := s.advance(t.clock.at(now))
	var closes int64
	if e, _ := s.find(id, hash); e != nil && e.blocked {
		closes = e.opened + t.window
	}
	s.mu.Unlock()
	// Another address of a blocked /64 may be one that is never blocked.
	if closes == 0 || t.exempt(addr) {
		return 0, false
	}
	return time.Duration(closes-at) * time.Millisecond, true
}

// Failed counts a failure of an address and reports whether it blocked it. For
// an address that is blocked already it reports false.
func (t *Table) Failed(addr netip.Addr, reason apikey.Reason, now time.Time) (blockedNow bool) {
	if !addr.IsValid() {
		t.counts.unknown.Add(1)
		return false
	}
	addr = apikey.CanonicalAddress(addr)
	if t.exempt(addr) {
		t.counts.exempted.Add(1)
		return false
	}
	id := idOf(addr)
	hash := t.hasher.hash(id)
	s := t.shardOf(hash)
	s.mu.Lock()
	at := s.advance(t.clock.at(now))
	e, place := t.entryOf(s, id, hash, at)
	if e == nil {
		s.mu.Unlock()
		return false
	}
	if e.failures < math.MaxUint32 {
		e.failures++
	}
	e.reason = reason
	if !e.blocked && e.failures >= t.threshold {
		e.since = uint32(at - e.opened)
		s.block(place)
		blockedNow = true
	}
	t.noted(s, place, blockedNow)
	return blockedNow
}

// List returns the addresses that are blocked, those first that stay so
// longest.
func (t *Table) List(now time.Time) []Entry {
	var list []Entry
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		at := s.advance(t.clock.at(now))
		for place := s.lists[blocked].first; place != none; place = s.entries[place].next {
			e := &s.entries[place]
			if s.over(e) {
				continue
			}
			list = append(list, Entry{
				Prefix:     e.id().prefix(),
				Since:      now.Add(-time.Duration(at-e.opened-int64(e.since)) * time.Millisecond).Round(0),
				Left:       time.Duration(e.opened+t.window-at) * time.Millisecond,
				Failures:   e.failures,
				LastReason: e.reason,
			})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.Left, a.Left), a.Prefix.Compare(b.Prefix))
	})
	return list
}

// Unblock forgets an address, or the /64 of an IPv6 address, with all its
// failures, and reports whether it was blocked.
func (t *Table) Unblock(addr netip.Addr, now time.Time) bool {
	if !addr.IsValid() {
		return false
	}
	id := idOf(apikey.CanonicalAddress(addr))
	hash := t.hasher.hash(id)
	s := t.shardOf(hash)
	s.mu.Lock()
	s.advance(t.clock.at(now))
	e, place := s.find(id, hash)
	if e == nil {
		s.mu.Unlock()
		return false
	}
	was := e.blocked
	s.drop(place)
	if t.journal != nil {
		s.lifted = append(s.lifted, id)
	}
	s.mu.Unlock()
	t.saver.kick()
	return was
}
