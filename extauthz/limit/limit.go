package limit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// DefaultCapacity is how many keys may have tokens out at once unless
// [Options] say otherwise.
const DefaultCapacity = 1_000_000

// Errors of [Limiter.Spend].
var (
	// ErrUnavailable says that the call could not be saved in time. Its token
	// is spent all the same.
	ErrUnavailable = errors.New("limits cannot be saved")
	// ErrClosed says that the limiter was closed.
	ErrClosed = errors.New("limiter is closed")
)

// Mode says what a crash may cost.
type Mode uint8

const (
	// Exact never lets more than a key's limit through, crashes included.
	Exact Mode = iota
	// Fast may forget one second: it never makes a call wait for its saving,
	// and no key pays for an unclean stop.
	Fast
)

// Options say how a [Limiter] works. The zero Options keep everything in
// memory only.
type Options struct {
	// Journal keeps what was spent across restarts. Nil: nothing does.
	Journal Journal
	Mode    Mode
	// Capacity is how many keys may have tokens out at once, about 365 bytes
	// each. Zero: [DefaultCapacity].
	Capacity int
	// Interval is how often calls are saved. Zero: a second.
	Interval time.Duration
	// Wait is how long a call waits for its saving where its context has no
	// deadline. Zero: 200 ms.
	Wait time.Duration
	// Logger hears of saves that begin to fail, and work again. Nil:
	// [slog.Default].
	Logger *slog.Logger
	// Now is the clock, whose readings must carry a monotonic part like those
	// of [time.Now]. Nil: time.Now.
	Now func() time.Time
}

// Result is what a limit says to one call. The zero Result denies.
type Result struct {
	Allowed bool
	// Limit is the key's limit. Zero: it has none, and the rest is zero.
	Limit uint32
	// Remaining is how many calls are left after this one.
	Remaining uint32
	// Reset is how long until the next token returns; for a denied call, how
	// long until it would be allowed, or an hour where it takes more than the
	// whole limit. Zero: no token is out.
	Reset time.Duration
	// Full says that the call was denied because too many other keys have
	// tokens out, and not for its own limit.
	Full bool
}

// Limiter spends the calls of keys. It is safe for concurrent use.
type Limiter struct {
	clock    clock
	journal  Journal
	exact    bool // calls may have to wait, and keys to pay
	capacity int64
	interval time.Duration
	wait     time.Duration
	logger   *slog.Logger
	now      func() time.Time
	unclean  []UncleanStop
	lastStop uint32 // number of the last unclean stop

	rings  atomic.Int64  // in memory, those awaiting their reclaim included
	cursor atomic.Uint32 // shard to sweep next
	// savedWall is Clock.Latest of the last save that succeeded.
	savedWall atomic.Int64
	closed    atomic.Bool
	stop      chan struct{} // closed by Close
	saver     *saver
	counts    counts
	shards    [shardCount]shard
}

// New returns a limiter that continues where its journal left off. A journal
// that cannot be read, or written, is an error.
func New(ctx context.Context, o Options) (*Limiter, error) {
	l := &Limiter{
		journal:  o.Journal,
		exact:    o.Journal != nil && o.Mode == Exact,
		capacity: int64(o.Capacity),
		interval: o.Interval,
		wait:     o.Wait,
		logger:   o.Logger,
		now:      o.Now,
		stop:     make(chan struct{}),
		saver:    newSaver(),
	}
	if o.Capacity < 0 || o.Interval < 0 || o.Wait < 0 || o.Mode > Fast {
		return nil, errors.New("limiter: expected a Capacity, Interval and Wait of at least 0 and a known Mode")
	}
	if l.capacity == 0 {
		l.capacity = DefaultCapacity
	}
	if l.interval == 0 {
		l.interval = time.Second
	}
	if l.wait == 0 {
		l.wait = 200 * time.Millisecond
	}
	if l.logger == nil {
		l.logger = slog.Default()
	}
	if l.now == nil {
		l.now = time.Now
	}
	for i := range l.shards {
		l.shards[i].index = make(map[apikey.KeyID]uint32)
	}
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// Spend takes n of the key's tokens, at least one, or denies where fewer are
// left and takes none. now is a reading of the clock, from [time.Now] or
// [Options].Now. It allocates nothing for a key that already has tokens out.
//
// In [Exact] mode a call that would make more than q tokens unsaved waits until
// they are saved, for as long as ctx has left or [Options].Wait. An error means
// that the call must not pass; its tokens stay spent.
func (l *Limiter) Spend(ctx context.Context, key *apikey.Key, n uint32, now time.Time) (Result, error) {
	n = max(n, 1)
	limit := key.RateLimitPerHour
	if limit == 0 {
		return Result{Allowed: true}, nil
	}
	at := l.clock.at(now)
	s := l.shardOf(key.ID)
	s.mu.Lock()
	if l.closed.Load() {
		s.mu.Unlock()
		return Result{}, ErrClosed
	}
	r, i := s.find(key.ID)
	if r == nil {
		if r, i = l.claim(s, key.ID, at); r == nil {
			s.mu.Unlock()
			l.counts.full.Add(1)
			return Result{Limit: limit, Reset: time.Minute, Full: true}, nil
		}
	}
	r.advance(at)
	// That tokens return later now is saved even if the call is denied.
	if r.shape(limit) && l.journal != nil {
		s.markDirty(r, i)
	}
	if r.settled != l.lastStop && l.exact {
		l.counts.charged.Add(l.settle(r, key))
		s.markDirty(r, i)
	}
	if r.out+uint64(n) > uint64(limit) {
		result := Result{Limit: limit, Remaining: r.left(limit), Reset: r.wait(limit, n)}
		s.mu.Unlock()
		l.counts.denied.Add(1)
		return result, nil
	}
	r.add(r.seen, n)
	result := Result{
		Allowed:   true,
		Limit:     limit,
		Remaining: limit - uint32(r.out),
		Reset:     time.Duration(r.returns()-r.seen) * time.Millisecond,
	}
	mustWait := false
	if l.journal != nil {
		mustWait = l.note(s, r, i, key, n)
	}
	s.mu.Unlock()
	if mustWait {
		if err := l.await(ctx); err != nil {
			return Result{}, fmt.Errorf("spending a call of key %d: %w", key.ID, err)
		}
	}
	return result, nil
}

// note counts a call that is to be saved and reports whether it must be saved
// before it may pass.
//
// The first calls of a key so new that the journal knows no time so late must
// be: if the wall clock went back while the service was down, the key would
// look as though it was created since, and pay nothing for what was forgotten.
func (l *Limiter) note(s *shard, r *ring, i uint32, key *apikey.Key, n uint32) (mustWait bool) {
	r.limit = key.RateLimitPerHour
	before := uint64(r.seq - r.saved)
	after := before + uint64(n)
	r.seq += n
	s.markDirty(r, i)
	if !l.exact {
		return false
	}
	q := uint64(unsavedCalls(r.limit))
	if q >= 16 && before <= q/2 && after > q/2 {
		l.saver.kick()
	}
	return after > q || (!r.kept && key.CreatedAt.UnixMilli() > l.savedWall.Load())
}

// unsavedCalls is q: how many tokens of a key may be spent before they are saved.
func unsavedCalls(limit uint32) uint32 { return max(1, limit/64) }

// settle makes a key pay for the unclean stops since it was last saved, and
// returns how many tokens that took.
func (l *Limiter) settle(r *ring, key *apikey.Key) (charged uint64) {
	created := key.CreatedAt.UnixMilli()
	limit := max(key.RateLimitPerHour, r.limit)
	for _, stop := range l.unclean {
		if stop.Number <= r.settled || stop.paid(r.seen) {
			continue
		}
		// A key that the journal knows was there before, whatever the clocks
		// said when it was created.
		if !r.kept && created > stop.Wall {
			continue
		}
		times := uint64(min(stop.Stops, stop.Number-r.settled))
		// Nobody can have forgotten more than the limit.
		charge := min(times*uint64(unsavedCalls(limit)), uint64(limit))
		r.add(stop.At, uint32(charge))
		charged += charge
	}
	r.settled = l.lastStop
	return charged
}

// Peek returns the state of a key's limit and changes nothing: whether a call
// of n tokens would be allowed now, and how many tokens are left.
func (l *Limiter) Peek(key *apikey.Key, n uint32, now time.Time) Result {
	n = max(n, 1)
	limit := key.RateLimitPerHour
	if limit == 0 {
		return Result{Allowed: true}
	}
	at := l.clock.at(now)
	s := l.shardOf(key.ID)
	r := ring{seen: at, key: key.ID}
	s.mu.Lock()
	if found, _ := s.find(key.ID); found != nil {
		r = *found
	}
	s.mu.Unlock()
	r.advance(at)
	r.shape(limit)
	if r.settled != l.lastStop && l.exact {
		l.settle(&r, key)
	}
	result := Result{Limit: limit, Remaining: r.left(limit), Allowed: r.out+uint64(n) <= uint64(limit)}
	switch {
	case !result.Allowed:
		result.Reset = r.wait(limit, n)
	case r.out > 0:
		result.Reset = time.Duration(r.returns()-r.seen) * time.Millisecond
	}
	return result
}

// unsettled reports whether a ring may still have to pay.
func (l *Limiter) unsettled(r *ring, at int64) bool {
	return r.settled != l.lastStop && !l.unclean[len(l.unclean)-1].paid(at)
}

// shardCount is a power of two.
const shardCount = 256

func (l *Limiter) shardOf(id apikey.KeyID) *shard {
	// The high bits of a multiplication by an odd number near 2^64 divided by
	// the golden ratio spread consecutive ids over all shards.
	return &l.shards[uint64(id)*0x9e3779b97f4a7c15>>56]
}
