package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// Mode says what becomes of calls that cannot be decided because the engine
// does not answer and no lease is left.
type Mode uint8

const (
	// Closed fails them with [ErrUnavailable].
	Closed Mode = iota
	// Open lets them through: while the engine is away a key's limit does not
	// hold.
	Open
)

// Options say how a [Limiter] works. Engine must be set.
type Options struct {
	Engine Engine
	// Mode is what to do while the engine is away. Zero: [Closed].
	Mode Mode
	// Replicas is among how many replicas leases are shared out. Zero: as
	// many as the engine counts.
	Replicas int
	// Span is how long a lease is, from a second to [MaxSpan]. Zero: MaxSpan.
	Span time.Duration
	// Capacity is how many keys are remembered at once, about 200 bytes each.
	// Zero: [limit.DefaultCapacity].
	Capacity int
	// Wait is how long a call waits for the engine where its context has no
	// deadline. Zero: 200 ms.
	Wait time.Duration
	// Timeout bounds each exchange with the engine. Zero: a second.
	Timeout time.Duration
	// Logger hears of the engine's going away and coming back. Nil:
	// [slog.Default].
	Logger *slog.Logger
	// Now is the clock, whose readings must carry a monotonic part like those
	// of [time.Now]. Nil: time.Now.
	Now func() time.Time
}

// ErrUnavailable says that a call could not be decided, because no lease was
// left and the engine did not answer.
var ErrUnavailable = errors.New("shared limits are not available")

const (
	// shortSpan is how long the leases of small limits are, whose tokens are
	// used at once.
	shortSpan = 5 * time.Second
	// denialLife is for how long it is remembered that a limit is used up; twice
	// as long each time that it still is.
	denialLife = 200 * time.Millisecond
	// longestDenial bounds that, since other replicas may give tokens back.
	longestDenial = 30 * time.Second
	// retryAfter is how long nobody asks an engine that did not answer.
	retryAfter = 100 * time.Millisecond
	// sweepEvery is how often ended leases are given back.
	sweepEvery = time.Second
)

// Limiter spends the calls of keys from leases. It is safe for concurrent use.
type Limiter struct {
	engine   Engine
	open     bool
	fixed    int
	span     time.Duration
	capacity int64
	wait     time.Duration
	timeout  time.Duration
	logger   *slog.Logger
	now      func() time.Time
	start    time.Time
	replica  uint64

	numbers  atomic.Uint64 // of leases
	replicas atomic.Int64
	keys     atomic.Int64
	cursor   int          // shard to sweep next; only Run touches it
	down     atomic.Int64 // monotonic time until which the engine is not asked
	failing  atomic.Bool
	closed   atomic.Bool
	stop     chan struct{} // closed by Close
	latest   bound         // on the engine's clock, for clocks as they are
	farthest bound         // for one that is slow
	queue    queue
	counts   counts
	shards   [shardCount]shard
}

// New returns a limiter. It asks the engine nothing yet.
func New(o Options) (*Limiter, error) {
	if o.Engine == nil {
		return nil, errors.New("shared limiter: Engine must be set")
	}
	if o.Capacity < 0 || o.Wait < 0 || o.Timeout < 0 || o.Replicas < 0 || o.Mode > Open {
		return nil, errors.New("shared limiter: expected a Capacity, Wait, Timeout and Replicas of at least 0 and a known Mode")
	}
	if o.Span != 0 && (o.Span < time.Second || o.Span > MaxSpan) {
		return nil, fmt.Errorf("shared limiter: Span: expected %v to %v, got %v", time.Second, MaxSpan, o.Span)
	}
	l := &Limiter{
		engine: o.Engine, open: o.Mode == Open, fixed: o.Replicas, span: o.Span, capacity: int64(o.Capacity),
		wait: o.Wait, timeout: o.Timeout, logger: o.Logger, now: o.Now, replica: rand.Uint64(), stop: make(chan struct{}),
	}
	if l.span == 0 {
		l.span = MaxSpan
	}
	if l.capacity == 0 {
		l.capacity = limit.DefaultCapacity
	}
	if l.wait == 0 {
		l.wait = 200 * time.Millisecond
	}
	if l.timeout == 0 {
		l.timeout = time.Second
	}
	if l.logger == nil {
		l.logger = slog.Default()
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.latest.drift, l.farthest.drift = usualDrift, worstDrift
	l.start = l.now()
	l.replicas.Store(int64(max(1, l.fixed)))
	for i := range l.shards {
		l.shards[i].index = map[apikey.KeyID]uint32{}
		l.shards[i].pending = map[apikey.KeyID]*pending{}
	}
	return l, nil
}

// instant is a reading of the clock: nanoseconds since the start by the
// monotonic clock, and since 1970 by the wall clock.
type instant struct{ mono, wall int64 }

func (l *Limiter) instant(now time.Time) instant {
	return instant{int64(now.Sub(l.start)), now.UnixNano()}
}

// Spend takes n of the key's tokens, at least one, or denies where fewer are
// left and takes none. now is a reading of the clock, from [time.Now] or
// [Options].Now: the call counts as made then or, where the lease that it is
// spent from came later, when that came. It waits only where no lease holds n tokens,
// for as long as ctx has left or [Options].Wait.
//
// [limit.Result] tells what is known here: Remaining is what the engine had
// left when it last answered and what this replica's leases hold, so others
// may have taken some of it since; Reset is when the engine expected tokens to
// return, which does not count those that other replicas give back.
//
// An error means that the call must not pass; it wraps [ErrUnavailable]
// where the engine did not answer, and [limit.ErrClosed] after Close.
func (l *Limiter) Spend(ctx context.Context, key *apikey.Key, n uint32, now time.Time) (limit.Result, error) {
	n = max(n, 1)
	most := key.RateLimitPerHour
	if most == 0 {
		return limit.Result{Allowed: true}, nil
	}
	at := l.instant(now)
	s := l.shardOf(key.ID)
	s.mu.Lock()
	if l.closed.Load() {
		s.mu.Unlock()
		return limit.Result{}, limit.ErrClosed
	}
	e, place := s.find(key.ID)
	if e == nil {
		if e, place = l.claim(s, key.ID); e == nil {
			s.mu.Unlock()
			l.counts.full.Add(1)
			return limit.Result{Limit: most, Reset: time.Minute, Full: true}, nil
		}
	}
	if e.limit != most {
		s.relimit(e, most)
	}
	if n > most {
		result := e.result(at, false)
		result.Reset = time.Hour
		s.mu.Unlock()
		l.counts.denied.Add(1)
		return result, nil
	}
	if e.take(n, at) {
		if !e.flying && e.runsLow(at) && l.up(at) {
			e.hungry = true
			l.fly(s, e, place)
		}
		result := e.result(at, true)
		s.mu.Unlock()
		return result, nil
	}
	if at.mono < e.deniedUntil {
		result := e.result(at, false)
		s.mu.Unlock()
		l.counts.denied.Add(1)
		return result, nil
	}
	if !l.up(at) {
		result := e.result(at, true)
		s.mu.Unlock()
		return l.undecided(result, key.ID, errAway)
	}
	w := &waiter{tokens: n, done: make(chan outcome, 1)}
	p := s.pend(key.ID)
	p.waiting = append(p.waiting, w)
	if !e.flying {
		l.fly(s, e, place)
	}
	s.mu.Unlock()
	return l.await(ctx, s, w, key)
}

var errAway = errors.New("the engine did not answer a moment ago")

// await returns what becomes of a call that asked the engine.
func (l *Limiter) await(ctx context.Context, s *shard, w *waiter, key *apikey.Key) (limit.Result, error) {
	l.counts.waits.Add(1)
	var expired <-chan time.Time
	if _, bounded := ctx.Deadline(); !bounded {
		timer := time.NewTimer(l.wait)
		defer timer.Stop()
		expired = timer.C
	}
	var err error
	select {
	case o := <-w.done:
		return l.decided(o, key.ID)
	case <-ctx.Done():
		err = ctx.Err()
	case <-expired:
		err = context.DeadlineExceeded
	}
	s.mu.Lock()
	w.gone = true
	select {
	case o := <-w.done: // it came at the last moment
		s.mu.Unlock()
		return l.decided(o, key.ID)
	default:
	}
	s.mu.Unlock()
	return l.undecided(limit.Result{Limit: key.RateLimitPerHour}, key.ID, err)
}

func (l *Limiter) decided(o outcome, id apikey.KeyID) (limit.Result, error) {
	if o.err != nil {
		return l.undecided(o.result, id, o.err)
	}
	if !o.result.Allowed {
		l.counts.denied.Add(1)
	}
	return o.result, nil
}

// undecided applies the mode to a call that could not be decided.
func (l *Limiter) undecided(result limit.Result, id apikey.KeyID, cause error) (limit.Result, error) {
	if errors.Is(cause, limit.ErrClosed) {
		return limit.Result{}, cause
	}
	if l.open && !errors.Is(cause, context.Canceled) {
		l.counts.opened.Add(1)
		result.Allowed = true
		return result, nil
	}
	l.counts.waitErrors.Add(1)
	return limit.Result{}, fmt.Errorf("leasing calls of key %d: %w: %w", id, ErrUnavailable, cause)
}

// Peek returns the state of a key's limit as it is known here, see
// [Limiter.Spend], and neither asks nor changes anything. Of a key that this
// replica has not seen it believes that nothing was spent; [Limiter.Look] asks.
func (l *Limiter) Peek(key *apikey.Key, n uint32, now time.Time) limit.Result {
	n = max(n, 1)
	most := key.RateLimitPerHour
	if most == 0 {
		return limit.Result{Allowed: true}
	}
	at := l.instant(now)
	s := l.shardOf(key.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.find(key.ID)
	if e == nil || e.limit != most || !e.known {
		return limit.Result{Limit: most, Remaining: most, Allowed: n <= most}
	}
	copied := *e
	result := copied.result(at, true)
	if result.Allowed = n <= result.Remaining; !result.Allowed {
		result = copied.result(at, false)
		if n > most {
			result.Reset = time.Hour
		}
	}
	return result
}

// Look asks the engine how a key's limit stands, and returns it as Peek would.
func (l *Limiter) Look(ctx context.Context, key *apikey.Key, n uint32, now time.Time) (limit.Result, error) {
	if key.RateLimitPerHour == 0 {
		return limit.Result{Allowed: true}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	at := l.instant(now)
	s := l.shardOf(key.ID)
	request := Request{Key: key.ID, Limit: key.RateLimitPerHour, Span: shortSpan, Latest: l.latest.by(at), Farthest: l.farthest.by(at)}
	s.mu.Lock()
	if e, _ := s.find(key.ID); e != nil && at.mono-e.seenAt < int64(time.Hour) {
		request.Seen = e.seen
	}
	s.mu.Unlock()
	requests := []Request{request}
	grants := make([]Grant, 1)
	err := l.engine.Exchange(ctx, requests, grants)
	if err == nil {
		err = grants[0].Err
	}
	if err != nil {
		return limit.Result{}, fmt.Errorf("looking at the limit of key %d: %w", key.ID, err)
	}
	l.counts.exchanges.Add(1)
	held := uint32(0)
	s.mu.Lock()
	if e, _ := s.find(key.ID); e != nil && e.limit == key.RateLimitPerHour {
		held = e.left(at)
	}
	s.mu.Unlock()
	g := &grants[0]
	result := limit.Result{Limit: key.RateLimitPerHour, Remaining: min(key.RateLimitPerHour, g.Left+held), Reset: g.Reset}
	result.Allowed = max(n, 1) <= result.Remaining
	return result, nil
}

// up reports whether the engine may be asked.
func (l *Limiter) up(at instant) bool { return at.mono >= l.down.Load() }
