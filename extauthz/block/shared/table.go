package shared

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
)

// Options say how a [Table] works. Table and Backend must be set.
type Options struct {
	// Table is where this replica keeps what it knows. It is run and closed by
	// its owner.
	Table   *block.Table
	Backend Backend
	// Threshold and Window are those of Table. Zero: their defaults.
	Threshold int
	Window    time.Duration
	// Wait is how long a failure waits for the backend. Zero: 50 ms.
	Wait time.Duration
	// Settle is how long the failure that makes an address blocked, and an
	// unblock, wait for all replicas to know of it. Zero: 200 ms.
	Settle time.Duration
	// Interval is how often changes are asked for where none are told of.
	// Zero: half a second.
	Interval time.Duration
	// Logger hears of the backend's going away and coming back. Nil:
	// [slog.Default].
	Logger *slog.Logger
	// Now is the clock, as that of Table. Nil: time.Now.
	Now func() time.Time
}

const (
	// batchSize is how many failures are told at once.
	batchSize = 256
	// queueSize is how many may wait to be told; more are counted here only.
	queueSize = 8192
	// retryAfter is how long nobody asks a backend that did not answer.
	retryAfter = 250 * time.Millisecond
	// timeout bounds each exchange with the backend.
	timeout = time.Second
)

// Table remembers failures and blocks of all replicas. It is safe for
// concurrent use.
type Table struct {
	local     *block.Table
	backend   Backend
	threshold uint32
	window    time.Duration
	wait      time.Duration
	settle    time.Duration
	interval  time.Duration
	replica   uint64 // random
	logger    *slog.Logger
	now       func() time.Time
	start     time.Time
	down      atomic.Int64 // nanoseconds since start until which the backend is left alone
	failing   atomic.Bool
	slow      atomic.Bool // the last answers were too late: nobody waits for the next
	closed    chan struct{}
	closing   sync.Once
	rung      chan struct{} // has room for one
	heard     uint64        // the last change; only Run touches it
	queue     queue
	counts    counts
}

// queue holds failures that were not told yet.
type queue struct {
	mu      sync.Mutex
	waiting []*report
	working bool
}

// report is a failure that is being told.
type report struct {
	failure Failure
	told    time.Time
	done    chan struct{} // closed once the rest is set
	answer  block.Remote
	err     error
	late    atomic.Bool // nobody waits for it any more
}

// New returns a table. It asks the backend nothing yet.
func New(o Options) (*Table, error) {
	if o.Table == nil || o.Backend == nil {
		return nil, errors.New("shared block table: Table and Backend must be set")
	}
	if o.Threshold < 0 || o.Window < 0 || o.Wait < 0 || o.Settle < 0 || o.Interval < 0 {
		return nil, errors.New("shared block table: expected a Threshold, Window, Wait, Settle and Interval of at least 0")
	}
	t := &Table{
		local: o.Table, backend: o.Backend, threshold: uint32(o.Threshold), window: o.Window, wait: o.Wait, settle: o.Settle, interval: o.Interval, replica: rand.Uint64(), //nolint:gosec // checked, and small
		logger: o.Logger, now: o.Now, closed: make(chan struct{}), rung: make(chan struct{}, 1),
	}
	if t.threshold == 0 {
		t.threshold = block.DefaultThreshold
	}
	if t.window == 0 {
		t.window = block.DefaultWindow
	}
	if t.wait == 0 {
		t.wait = 50 * time.Millisecond
	}
	if t.settle == 0 {
		t.settle = 200 * time.Millisecond
	}
	if t.interval == 0 {
		t.interval = 500 * time.Millisecond
	}
	if t.logger == nil {
		t.logger = slog.Default()
	}
	if t.now == nil {
		t.now = time.Now
	}
	t.start = t.now()
	return t, nil
}

// Blocked is [block.Table.Blocked]: it never asks the backend.
func (t *Table) Blocked(addr netip.Addr, now time.Time) (time.Duration, bool) {
	return t.local.Blocked(addr, now)
}

// List is [block.Table.List]: blocks of other replicas are among them a moment
// after they began.
func (t *Table) List(now time.Time) []block.Entry { return t.local.List(now) }

// Failed counts a failure of an address, together with those that the other
// replicas see, and reports whether it blocked it. Where the backend does not
// answer in time those of this replica count alone.
func (t *Table) Failed(addr netip.Addr, reason apikey.Reason, now time.Time) (blockedNow bool) {
	if !addr.IsValid() || t.local.Exempt(addr) || !t.up() {
		return t.alone(addr, reason, now)
	}
	r := &report{failure: Failure{block.PrefixOf(addr), reason, t.threshold, t.window}, told: t.now(), done: make(chan struct{})}
	slow := t.slow.Load()
	r.late.Store(slow)
	if !t.tell(r) {
		t.counts.overflows.Add(1)
		return t.alone(addr, reason, now)
	}
	if slow {
		t.counts.late.Add(1)
		return t.alone(addr, reason, now)
	}
	timer := time.NewTimer(t.wait)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
		r.late.Store(true)
		t.slow.Store(true)
		t.counts.late.Add(1)
		return t.alone(addr, reason, now)
	}
	if r.err != nil {
		return t.alone(addr, reason, now)
	}
	t.counts.told.Add(1)
	blockedNow = t.local.Adopt(r.answer, true, now)
	if r.answer.Blocked && r.answer.Failures == t.threshold { // by this one, though Run may have heard of it before
		blockedNow = true
	}
	if blockedNow {
		ctx, cancel := context.WithTimeout(context.Background(), t.settle)
		defer cancel()
		t.await(ctx)
	}
	return blockedNow
}

// settleEvery is how often it is asked whether all replicas know.
const settleEvery = 2 * time.Millisecond

// await waits until all replicas know of the last change that there is now, or
// ctx is done. Whoever was told that an address is blocked finds it blocked
// everywhere.
func (t *Table) await(ctx context.Context) {
	all, target, err := t.backend.Heard(ctx)
	for err == nil && all < target {
		pause := time.NewTimer(settleEvery)
		select {
		case <-pause.C:
		case <-t.closed:
			pause.Stop()
			return
		case <-ctx.Done():
			pause.Stop()
			t.counts.unsettled.Add(1)
			return
		}
		all, _, err = t.backend.Heard(ctx)
	}
	if err != nil {
		t.counts.unsettled.Add(1)
	}
}

func (t *Table) alone(addr netip.Addr, reason apikey.Reason, now time.Time) bool {
	t.counts.alone.Add(1)
	return t.local.Failed(addr, reason, now)
}

func (t *Table) up() bool { return int64(t.now().Sub(t.start)) >= t.down.Load() }

// tell queues a failure and reports whether there was room.
func (t *Table) tell(r *report) bool {
	q := &t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= queueSize {
		return false
	}
	q.waiting = append(q.waiting, r)
	if !q.working {
		q.working = true
		go t.work()
	}
	return true
}

// work tells failures until there are none.
func (t *Table) work() {
	q := &t.queue
	var batch []*report
	for {
		q.mu.Lock()
		n := min(len(q.waiting), batchSize)
		if n == 0 {
			q.working = false
			q.mu.Unlock()
			return
		}
		batch = append(batch[:0], q.waiting[:n]...)
		rest := copy(q.waiting, q.waiting[n:])
		clear(q.waiting[rest:])
		q.waiting = q.waiting[:rest]
		q.mu.Unlock()
		t.exchange(batch)
	}
}

func (t *Table) exchange(batch []*report) {
	failures, answers := make([]Failure, len(batch)), make([]block.Remote, len(batch))
	for i, r := range batch {
		failures[i] = r.failure
	}
	err := errDown
	if t.up() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		err = t.backend.Failed(ctx, failures, answers)
		cancel()
		t.note(err)
	}
	if err == nil && t.now().Sub(batch[0].told) <= t.wait {
		t.slow.Store(false)
	}
	for i, r := range batch {
		r.answer, r.err = answers[i], err
		close(r.done)
		if err == nil && r.late.Load() { // what others saw is good to know all the same
			t.local.Adopt(r.answer, false, t.now())
		}
	}
}

var errDown = errors.New("the backend did not answer a moment ago")

// Unblock forgets an address, or the /64 of an IPv6 address, with all its
// failures, here and at all replicas, and reports whether it was blocked. An
// error says that the other replicas may keep it blocked.
func (t *Table) Unblock(ctx context.Context, addr netip.Addr, now time.Time) (bool, error) {
	if !addr.IsValid() {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	was, err := t.backend.Unblock(ctx, block.PrefixOf(addr))
	here := t.local.Unblock(addr, now)
	t.note(err)
	if err != nil {
		return here, fmt.Errorf("unblocking an address for all replicas: %w", err)
	}
	t.await(ctx)
	return was || here, nil
}

// note counts what came of asking the backend, and logs where it goes away or
// comes back.
func (t *Table) note(err error) {
	if err != nil {
		t.counts.errors.Add(1)
		t.down.Store(int64(t.now().Sub(t.start) + retryAfter))
	}
	if was := t.failing.Swap(err != nil); was == (err != nil) {
		return
	}
	if err != nil {
		t.logger.LogAttrs(context.Background(), slog.LevelError, "the backend of shared blocks does not answer; failures are counted by each replica alone", slog.String("error", err.Error()))
		return
	}
	t.logger.LogAttrs(context.Background(), slog.LevelInfo, "the backend of shared blocks answers again")
}
