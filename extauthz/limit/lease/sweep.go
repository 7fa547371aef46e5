package lease

import (
	"context"
	"fmt"
	"time"
)

// Run gives back what was not used of leases that ended, tells the engine that
// this replica is there, and forgets keys that are not used any more. It
// returns nil once ctx is done or the limiter closed. Without it unused tokens
// are only given back at the key's next call.
func (l *Limiter) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	l.count(ctx)
	counted := l.instant(l.now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.stop:
			return nil
		case <-tick.C:
		}
		now := l.instant(l.now())
		if now.mono-counted.mono > int64(ReplicaLife/4) {
			l.count(ctx)
			counted = now
		}
		l.sweep(now)
	}
}

// count asks the engine how many replicas there are.
func (l *Limiter) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	n, err := l.engine.Replicas(ctx, l.replica)
	if err != nil || l.fixed > 0 {
		return // as many as there were
	}
	l.replicas.Store(int64(max(1, n)))
}

// sweep looks at leases that ended, at what could not be given back before,
// and in some shards for keys to forget.
func (l *Limiter) sweep(now instant) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		l.follow(s, &s.endings[1], now)
		for q := range s.endings {
			for {
				ended, due := s.endings[q].pop(now.mono)
				if !due {
					break
				}
				e := s.at(ended.place)
				if e.used && !e.flying && s.dropEnded(e, now) && !e.patient(now) && l.up(now) {
					l.fly(s, e, ended.place)
				}
			}
		}
		l.retry(s, now)
		s.mu.Unlock()
	}
	for range 4 {
		l.cursor = (l.cursor + 1) % shardCount
		l.reclaim(&l.shards[l.cursor], now)
	}
}

// follow asks for leases that follow those which end soon.
func (l *Limiter) follow(s *shard, q *endings, now instant) {
	for {
		ends, due := q.next(now.mono + l.aheadOfEnd())
		if !due {
			return
		}
		e := s.at(ends.place)
		if e.used && !e.flying && l.followed(e, ends.number, now) && l.up(now) {
			e.hungry = true
			l.fly(s, e, ends.place)
		}
	}
}

// retry sends again what could not be given back.
func (l *Limiter) retry(s *shard, now instant) {
	if len(s.pending) == 0 { // to begin to range costs more
		return
	}
	for id, p := range s.pending {
		e, place := s.find(id)
		if len(p.back) == 0 || e == nil || e.flying || e.patient(now) {
			continue
		}
		if p.until > 0 && now.mono > p.until {
			p.back = nil
			s.unpend(id)
			continue
		}
		if l.up(now) {
			l.fly(s, e, place)
		}
	}
}

// reclaim forgets the keys of a shard that were not used for an hour or, where
// room is short, that hold nothing.
func (l *Limiter) reclaim(s *shard, now instant) {
	kept := int64(time.Hour)
	if l.keys.Load() > l.capacity-l.capacity/16 {
		kept = int64(denialLife)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for b := range s.blocks {
		for i := range s.blocks[b] {
			e := &s.blocks[b][i]
			if e.used && e.idle() && s.pending[e.key] == nil && now.mono-e.seenAt > kept {
				l.forget(s, uint32(b*blockEntries+i))
			}
		}
	}
}

// Close gives all leases back; ctx bounds how long that may take. Calls of
// [Limiter.Spend] made afterwards return [limit.ErrClosed]. Where giving back
// fails the tokens return as though they had been used.
func (l *Limiter) Close(ctx context.Context) error {
	if l.closed.CompareAndSwap(false, true) {
		close(l.stop)
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		for place := range uint32(len(s.blocks)) * blockEntries {
			e := s.at(place)
			if !e.used {
				continue
			}
			for i := range e.leases {
				s.giveUp(e, &e.leases[i])
			}
			if p := s.pending[e.key]; p != nil && !e.flying && len(p.back) > 0 {
				l.fly(s, e, place)
			}
		}
		s.mu.Unlock()
	}
	q := &l.queue
	q.mu.Lock()
	if q.working == 0 {
		q.mu.Unlock()
		return nil
	}
	if q.idle == nil {
		q.idle = make(chan struct{})
	}
	idle := q.idle
	q.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing shared limiter: giving leases back: %w", ctx.Err())
	}
}
