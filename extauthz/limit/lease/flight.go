package lease

import (
	"context"
	"sync"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

const (
	// workers is how many exchanges may be under way at once. Keys that have
	// to wait for one to end share the next.
	workers = 4
	// batchKeys is how many keys share an exchange at most.
	batchKeys = 128
	// batchBack is how many leases of a key are given back in one exchange.
	batchBack = 8
	// backLife is for how long it is tried to give tokens back.
	backLife = 90 * time.Second
)

// queue holds the keys that want an exchange.
type queue struct {
	mu      sync.Mutex
	jobs    []job
	working int
	idle    chan struct{} // closed once nobody works; set by Close
}

type job struct {
	shard *shard
	place uint32
	key   apikey.KeyID
}

// fly queues an exchange for a key, whose shard is locked.
func (l *Limiter) fly(s *shard, e *entry, place uint32) {
	e.flying = true
	q := &l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, job{s, place, e.key})
	if q.working < workers {
		q.working++
		go l.work()
	}
}

// work makes exchanges until none is wanted.
func (l *Limiter) work() {
	q := &l.queue
	f := &flight{}
	for {
		q.mu.Lock()
		n := min(len(q.jobs), batchKeys)
		if n == 0 {
			q.working--
			if q.working == 0 && q.idle != nil {
				close(q.idle)
				q.idle = nil
			}
			q.mu.Unlock()
			return
		}
		f.jobs = append(f.jobs[:0], q.jobs[:n]...)
		q.jobs = q.jobs[:copy(q.jobs, q.jobs[n:])]
		q.mu.Unlock()
		l.exchange(f)
	}
}

// flight is one exchange, its memory reused for the next.
type flight struct {
	jobs     []job
	aboard   []job // of them, those with a request
	requests []Request
	grants   []Grant
}

func (l *Limiter) exchange(f *flight) {
	// Leases are counted from before anything was sent.
	sent := l.instant(l.now())
	f.aboard, f.requests = f.aboard[:0], f.requests[:0]
	latest, farthest := l.latest.by(sent), l.farthest.by(sent)
	for _, j := range f.jobs {
		if request, wanted := l.request(j, sent); wanted {
			request.Latest, request.Farthest = latest, farthest
			f.aboard, f.requests = append(f.aboard, j), append(f.requests, request)
		}
	}
	if len(f.requests) == 0 {
		return
	}
	f.grants = append(f.grants[:0], make([]Grant, len(f.requests))...)
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	err := l.engine.Exchange(ctx, f.requests, f.grants)
	cancel()
	landed := l.instant(l.now())
	l.counts.exchanges.Add(uint64(len(f.requests)))
	l.counts.batches.Add(1)
	for i := range f.grants {
		if err != nil {
			f.grants[i] = Grant{Err: err}
		}
		if f.grants[i].Err == nil {
			l.latest.see(f.grants[i].Time, sent)
			l.farthest.see(f.grants[i].Time, sent)
		}
	}
	l.noteEngine(landed, f.grants)
	for i, j := range f.aboard {
		l.land(j, &f.requests[i], &f.grants[i], sent, landed)
	}
}

// request says what a key wants of the engine now.
func (l *Limiter) request(j job, now instant) (Request, bool) {
	s := j.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.at(j.place)
	s.dropEnded(e, now)
	p := s.pending[e.key]
	r := Request{Key: e.key, Limit: e.limit, Seen: e.seen, Span: l.span, Lease: ID{l.replica, l.numbers.Add(1)}}
	if now.mono-e.seenAt > int64(time.Hour) {
		r.Seen = 0
	}
	if !l.closed.Load() {
		r.Tokens = l.wants(e, p, now)
	}
	if r.Tokens > 0 && e.room() == nil {
		// One with few tokens makes room: they come with the others again.
		few := &e.leases[0]
		for i := range e.leases {
			if e.leases[i].left < few.left {
				few = &e.leases[i]
			}
		}
		r.Tokens = min(r.Tokens+few.left, e.limit)
		s.giveUp(e, few)
		p = s.pending[e.key]
	}
	if l.shareOf(e.limit) == 1 {
		r.Span = min(r.Span, shortSpan)
	}
	if p != nil && len(p.back) > 0 {
		n := min(len(p.back), batchBack)
		r.Back = append(r.Back, p.back[:n]...)
		for i := range r.Back {
			r.Back[i].Lease.Replica = l.replica
		}
		p.back = p.back[:copy(p.back, p.back[n:])]
	}
	if r.Tokens == 0 && len(r.Back) == 0 {
		e.flying = false
		s.unpend(e.key)
		return r, false
	}
	return r, true
}

// land notes what came of a request.
func (l *Limiter) land(j job, r *Request, g *Grant, sent, landed instant) {
	s := j.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.at(j.place)
	p := s.pend(e.key)
	e.flying = false
	if g.Err != nil {
		// It may have been carried out. Giving back twice does nothing.
		if p.until == 0 {
			p.until = landed.mono + int64(backLife)
		}
		p.back = append(p.back, r.Back...)
		if r.Tokens > 0 {
			p.back = append(p.back, Back{Lease: r.Lease, Unused: r.Tokens})
		}
		for _, w := range p.waiting {
			w.done <- outcome{result: e.result(landed, true), err: g.Err}
		}
		p.waiting = nil
		s.unpend(e.key)
		return
	}
	for _, back := range r.Back {
		l.counts.returned.Add(uint64(back.Unused))
	}
	l.counts.leased.Add(uint64(g.Tokens))
	l.counts.charged.Add(uint64(g.Charged))
	l.measure(e, g, sent, landed)
	e.seen, e.seenAt = g.Total, landed.mono
	if e.limit == r.Limit {
		e.known, e.engineLeft, e.resetAt = true, g.Left, sent.mono+int64(g.Reset)
	}
	p.until = 0
	l.receive(s, j, e, r, g, sent, landed)
	exhausted := g.Tokens < r.Tokens && e.limit == r.Limit
	if g.Tokens > 0 {
		e.dry = 0
	}
	if exhausted {
		e.dry = min(max(2*e.dry, denialLife), longestDenial)
		e.deniedUntil = landed.mono + int64(e.dry)
		if g.Reset > 0 {
			e.deniedUntil = min(e.deniedUntil, max(landed.mono, e.resetAt))
		}
	}
	l.serve(e, p, landed, exhausted)
	if exhausted && e.left(landed) > e.size {
		// It was for a call that takes more: others may need less.
		for i := range e.leases {
			if e.leases[i].number == r.Lease.Number {
				s.giveUp(e, &e.leases[i])
			}
		}
	}
	if len(p.waiting) > 0 || len(p.back) > 0 {
		l.fly(s, e, j.place)
	}
	s.unpend(e.key)
}

// receive puts a lease into its entry, or gives it back where it is of no use
// any more.
func (l *Limiter) receive(s *shard, j job, e *entry, r *Request, g *Grant, sent, landed instant) {
	if g.Tokens == 0 {
		return
	}
	// A clock that runs slower than the engine's by a twentieth is good enough.
	length := int64(r.Span - r.Span/20)
	lease := granted{number: r.Lease.Number, end: sent.mono + length, wallEnd: sent.wall + length, left: g.Tokens, tokens: g.Tokens}
	room := e.room()
	if room == nil || e.limit != r.Limit || !lease.live(landed) || l.closed.Load() {
		s.giveUp(e, &lease)
		return
	}
	*room = lease
	queue := &s.endings[0]
	if r.Span == l.span {
		queue = &s.endings[1]
	}
	queue.push(ending{j.place, lease.number, lease.end})
}

// serve decides the calls that waited, as far as that is possible now.
func (l *Limiter) serve(e *entry, p *pending, landed instant, exhausted bool) {
	kept := p.waiting[:0]
	for _, w := range p.waiting {
		switch {
		case w.gone:
		case l.closed.Load():
			w.done <- outcome{err: limit.ErrClosed}
		case e.take(w.tokens, landed):
			w.done <- outcome{result: e.result(landed, true)}
		case w.tokens > e.limit || exhausted:
			w.done <- outcome{result: e.result(landed, false)}
		default:
			kept = append(kept, w)
		}
	}
	clear(p.waiting[len(kept):])
	p.waiting = kept
}
