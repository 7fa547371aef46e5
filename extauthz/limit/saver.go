package limit

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// saver brings calls and their saving together.
type saver struct {
	turn    chan struct{} // holds one token; who has it may save
	kicked  chan struct{}
	mu      sync.Mutex // guards pending and last
	pending *round
	last    Clock // of the last save that succeeded
	// The rest is reused from save to save; guarded by turn.
	batch  Batch
	due    []Due
	spans  []span
	taken  []taken
	places []uint32
}

// round is one save, seen by those who wait for it. Calls that were noted
// before it begins are in it.
type round struct {
	done chan struct{}
	err  error // once done is closed
}

// batchRings is how many rings make a batch full, so that its memory stays
// within a few megabytes.
const batchRings = 8192

// batchDeletes bounds how many records a save removes; others wait for the
// next one.
const batchDeletes = 16384

// span is where the due tokens of a record stand in saver.due.
type span struct{ from, to int }

// taken is a ring that is part of a save.
type taken struct {
	shard *shard
	place uint32
	seq   uint32
}

func newSaver() *saver {
	s := &saver{turn: make(chan struct{}, 1), kicked: make(chan struct{}, 1), pending: &round{done: make(chan struct{})}}
	s.turn <- struct{}{}
	return s
}

// kick asks for a save now.
func (s *saver) kick() {
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// upcoming returns the save that will begin next.
func (s *saver) upcoming() *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

func (s *saver) begin() *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := s.pending
	s.pending = &round{done: make(chan struct{})}
	return current
}

// await returns once a save that began after it was called has succeeded.
func (l *Limiter) await(ctx context.Context) error {
	l.counts.waits.Add(1)
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.wait)
		defer cancel()
	}
	for {
		next := l.saver.upcoming()
		l.saver.kick()
		select {
		case <-next.done:
			if next.err == nil {
				return nil
			}
		case <-ctx.Done():
			l.counts.waitErrors.Add(1)
			return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// Run saves calls each interval, and sooner where a call waits for it, and
// reclaims the memory of keys that have no tokens out. It returns nil once ctx
// is done or the limiter closed. Without it, nothing is saved before
// [Limiter.Close]. Failures to save are logged, counted and tried again.
func (l *Limiter) Run(ctx context.Context) error {
	tick := time.NewTicker(l.interval)
	defer tick.Stop()
	var retry time.Duration
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.stop:
			return nil
		case <-tick.C:
			l.sweepSome(l.clock.at(l.now()), 60)
			if l.journal == nil || l.idle() {
				continue
			}
		case <-l.saver.kicked:
		}
		err := l.save(ctx)
		if err == nil {
			retry = 0
			continue
		}
		retry = min(max(10*time.Millisecond, 2*retry), time.Second)
		pause := time.NewTimer(retry)
		select {
		case <-ctx.Done():
		case <-l.stop:
		case <-pause.C:
			l.saver.kick()
		}
		pause.Stop()
	}
}

// Close saves everything and notes that the limiter stopped cleanly; ctx
// bounds how long that may take. Calls of [Limiter.Spend] made afterwards
// return [ErrClosed]. Where saving fails Close may be called again; if it is
// not, the next start finds an unclean stop.
func (l *Limiter) Close(ctx context.Context) error {
	if l.closed.CompareAndSwap(false, true) {
		close(l.stop)
	}
	if l.journal == nil {
		return nil
	}
	if err := l.save(ctx); err != nil {
		return fmt.Errorf("closing limiter: %w", err)
	}
	return nil
}

// save makes everything noted so far durable, in as many batches as it takes.
func (l *Limiter) save(ctx context.Context) error {
	s := l.saver
	select {
	case <-s.turn:
	case <-ctx.Done():
		return fmt.Errorf("waiting for another save: %w", ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	current := s.begin()
	// What is collected once closed is set is all there will ever be.
	last := l.closed.Load()
	err := l.saveShards(ctx)
	if err == nil {
		err = l.saveBatch(ctx, !last)
	}
	current.err = err
	close(current.done)
	l.noteSave(ctx, err)
	if err != nil {
		return fmt.Errorf("saving limits: %w", err)
	}
	return nil
}

// saveShards collects all rings with calls to save, and saves whenever that
// makes a full batch. What is left is for the last batch.
func (l *Limiter) saveShards(ctx context.Context) error {
	s := l.saver
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		rest := max(0, len(sh.gone)-max(0, batchDeletes-len(s.batch.Delete)))
		for _, id := range sh.gone[rest:] {
			// One that is there again has a new record, or will.
			if _, found := sh.index[id]; !found {
				s.batch.Delete = append(s.batch.Delete, id)
			}
		}
		sh.gone = sh.gone[:rest]
		s.places, sh.dirty = sh.dirty, s.places[:0]
		sh.mu.Unlock()
		for len(s.places) > 0 {
			// Few at a time: nobody should wait for the shard's lock.
			some := s.places[max(0, len(s.places)-64):]
			s.places = s.places[:len(s.places)-len(some)]
			l.collect(sh, some)
			if len(s.taken) < batchRings {
				continue
			}
			if err := l.saveBatch(ctx, true); err != nil {
				sh.mu.Lock()
				sh.dirty = append(sh.dirty, s.places...)
				sh.mu.Unlock()
				return err
			}
		}
	}
	return nil
}

// collect adds rings of a shard to the batch.
func (l *Limiter) collect(sh *shard, places []uint32) {
	s := l.saver
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, place := range places {
		r := sh.ring(place)
		r.dirty, r.saving = false, true
		from := len(s.due)
		s.due = r.appendDue(s.due)
		s.spans = append(s.spans, span{from, len(s.due)})
		s.batch.Put = append(s.batch.Put, Record{Key: r.key, Settled: r.settled, Limit: r.limit})
		s.taken = append(s.taken, taken{sh, place, r.seq})
	}
}

// saveBatch saves what was collected and notes the outcome in its rings.
func (l *Limiter) saveBatch(ctx context.Context, running bool) error {
	s := l.saver
	for i, span := range s.spans {
		s.batch.Put[i].Due = s.due[span.from:span.to:span.to]
	}
	// The clock is read after the rings, so that none has seen a later time.
	s.batch.State = State{Running: running, Clock: l.clock.reading(l.now()), Unclean: l.unclean}
	err := l.journal.Save(ctx, &s.batch)
	for _, t := range s.taken {
		t.shard.mu.Lock()
		r := t.shard.ring(t.place)
		r.saving = false
		if err == nil {
			r.saved, r.kept = t.seq, true
		} else {
			t.shard.markDirty(r, t.place)
		}
		t.shard.mu.Unlock()
	}
	if err == nil {
		s.mu.Lock()
		s.last = s.batch.State.Clock
		s.mu.Unlock()
		l.savedWall.Store(s.batch.State.Clock.Latest)
	} else {
		for _, id := range s.batch.Delete {
			sh := l.shardOf(id)
			sh.mu.Lock()
			sh.gone = append(sh.gone, id)
			sh.mu.Unlock()
		}
	}
	s.batch.Delete, s.batch.Put = s.batch.Delete[:0], s.batch.Put[:0]
	s.due, s.spans, s.taken = s.due[:0], s.spans[:0], s.taken[:0]
	return err
}

// idle reports whether a save would change nothing worth it. The wall clock
// and the limiter's drifting apart is: what it was set by while the process
// ran must not count as time that passed while it did not.
func (l *Limiter) idle() bool {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		busy := len(sh.dirty) > 0 || len(sh.gone) > 0
		sh.mu.Unlock()
		if busy {
			return false
		}
	}
	l.saver.mu.Lock()
	last := l.saver.last
	l.saver.mu.Unlock()
	now := l.now()
	drift := (now.UnixMilli() - l.clock.at(now)) - (last.Wall - last.Time)
	return -50 < drift && drift < 50
}
