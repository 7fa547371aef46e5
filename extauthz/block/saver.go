package block

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// batchSize is how many records make a batch full.
	batchSize = 8192
	// Of each shard so many windows are saved, and so many old ones removed,
	// each time: a flood must not become one of writes.
	saveQuota   = 32
	removeQuota = 64
)

// saver holds what is being saved.
type saver struct {
	turn   chan struct{} // holds one token; who has it may save
	kicked chan struct{}
	// The rest is reused from save to save; guarded by turn.
	batch  Batch
	taken  []taken
	gone   []id
	lifted []id
	last   Clock // of the last save that succeeded
}

// taken is an entry that is part of a save.
type taken struct {
	shard  *shard
	place  uint32
	id     id
	opened int64
}

func newSaver() *saver {
	s := &saver{turn: make(chan struct{}, 1), kicked: make(chan struct{}, 1)}
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

// Run saves windows each interval and blocks at once. It returns nil once ctx
// is done or the table closed. Without it, nothing is saved before
// [Table.Close]. Failures to save are logged, counted and tried again.
func (t *Table) Run(ctx context.Context) error {
	if t.journal == nil {
		select {
		case <-ctx.Done():
		case <-t.stop:
		}
		return nil
	}
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.stop:
			return nil
		case <-tick.C:
		case <-t.saver.kicked:
		}
		if err := t.save(ctx, false); err == nil {
			continue
		}
		// At most one attempt an interval: the next tick tries again.
		select {
		case <-ctx.Done():
		case <-t.stop:
		case <-tick.C:
			t.saver.kick()
		}
	}
}

// Close saves everything; ctx bounds how long that may take. A table may be
// used after that, but what happens then is not saved. Where saving fails
// Close may be called again.
func (t *Table) Close(ctx context.Context) error {
	if t.closed.CompareAndSwap(false, true) {
		close(t.stop)
	}
	if t.journal == nil {
		return nil
	}
	if err := t.save(ctx, true); err != nil {
		return fmt.Errorf("closing block table: %w", err)
	}
	return nil
}

func (t *Table) load(ctx context.Context) error {
	if t.journal == nil {
		t.clock = resume(Clock{}, t.now())
		return nil
	}
	state, err := t.journal.State(ctx)
	if err != nil {
		return fmt.Errorf("loading blocked addresses: %w", err)
	}
	// Read after the journal, which may have taken a while to open.
	t.clock = resume(state.Clock, t.now())
	if err := t.journal.Records(ctx, t.loadRecord); err != nil {
		return fmt.Errorf("loading blocked addresses: %w", err)
	}
	// Only the state: removing many old records can wait for Run.
	if err := t.saveBatch(ctx); err != nil {
		return fmt.Errorf("starting block table: %w", err)
	}
	return nil
}

func (t *Table) loadRecord(record *Record) error {
	prefix := record.Prefix
	if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() ||
		(prefix.Addr().Is4() && prefix.Bits() != 32) || (prefix.Addr().Is6() && prefix.Bits() != 64) {
		return errors.New("record of a blocked address: expected an IPv4 address or an IPv6 /64")
	}
	i := idOf(prefix.Addr())
	hash := t.hasher.hash(i)
	s := t.shardOf(hash)
	s.latest = max(s.latest, t.clock.base)
	if s.latest-record.Opened >= t.window || t.exempt(prefix.Addr()) {
		s.forget(i)
		return nil
	}
	if e, _ := s.find(i, hash); e != nil {
		return fmt.Errorf("record of %s: expected one, got two", prefix)
	}
	// No window opens in the future; one could only come from a journal whose
	// clock is wrong.
	e, place, evicted := s.open(i, hash, min(record.Opened, s.latest))
	if e == nil {
		t.counts.refused.Add(1)
		return nil
	}
	if evicted {
		t.counts.evicted.Add(1)
	}
	e.failures, e.reason, e.saved = record.Failures, record.Reason, true
	if record.Blocked != 0 {
		e.since = uint32(max(0, min(record.Blocked-e.opened, t.window)))
		s.block(place)
	}
	return nil
}

// save makes what happened so far durable: all of it, or, where not, all that
// concerns blocks and a share of the windows.
func (t *Table) save(ctx context.Context, all bool) error {
	s := t.saver
	select {
	case <-s.turn:
	case <-ctx.Done():
		return fmt.Errorf("waiting for another save: %w", ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	err := t.saveShards(ctx, all)
	if err == nil && (all || len(s.batch.Put)+len(s.batch.Delete) > 0 || t.drifted()) {
		err = t.saveBatch(ctx)
	}
	t.noteSave(ctx, err)
	if err != nil {
		return fmt.Errorf("saving blocked addresses: %w", err)
	}
	return nil
}

// drifted reports whether the wall clock was set since the last save. What it
// was set by must not count as time that passed while the process did not run.
func (t *Table) drifted() bool {
	now := t.clock.reading(t.now())
	drift := (now.Wall - now.Time) - (t.saver.last.Wall - t.saver.last.Time)
	return drift < -50 || drift > 50
}

func (t *Table) saveShards(ctx context.Context, all bool) error {
	s := t.saver
	for i := range t.shards {
		sh := &t.shards[i]
		t.collect(sh, all)
		for len(s.taken) >= batchSize {
			if err := t.saveBatch(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// collect adds to the batch what a shard has to save.
func (t *Table) collect(sh *shard, all bool) {
	s := t.saver
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, i := range sh.lifted {
		s.batch.Delete = append(s.batch.Delete, i.prefix())
		s.lifted = append(s.lifted, i)
	}
	sh.lifted = sh.lifted[:0]
	rest := max(0, len(sh.gone)-removeQuota)
	for _, i := range sh.gone[rest:] {
		// One that is there again has a new record, or will.
		if e, _ := sh.find(i, sh.hasher.hash(i)); e != nil {
			continue
		}
		s.batch.Delete = append(s.batch.Delete, i.prefix())
		s.gone = append(s.gone, i)
	}
	sh.gone = sh.gone[:rest]
	for _, place := range sh.urgent {
		sh.entries[place].listedUrgent = false
		t.take(sh, place)
	}
	sh.urgent = sh.urgent[:0]
	rest = 0
	if !all {
		rest = max(0, len(sh.dirty)-saveQuota)
	}
	for _, place := range sh.dirty[rest:] {
		sh.entries[place].listed = false
		t.take(sh, place)
	}
	sh.dirty = sh.dirty[:rest]
}

func (t *Table) take(sh *shard, place uint32) {
	e := &sh.entries[place]
	if !e.dirty {
		return // saved meanwhile, or another entry's place
	}
	e.dirty, e.saved = false, true
	record := Record{Prefix: e.id().prefix(), Opened: e.opened, Failures: e.failures, Reason: e.reason}
	if e.blocked {
		record.Blocked = e.opened + int64(e.since)
	}
	t.saver.batch.Put = append(t.saver.batch.Put, record)
	t.saver.taken = append(t.saver.taken, taken{sh, place, e.id(), e.opened})
}

// saveBatch saves what was collected. What could not be saved is there to be
// collected again.
func (t *Table) saveBatch(ctx context.Context) error {
	s := t.saver
	s.batch.State = State{Clock: t.clock.reading(t.now())}
	err := t.journal.Save(ctx, &s.batch)
	if err == nil {
		s.last = s.batch.State.Clock
	} else {
		t.putBack()
	}
	s.batch.Delete, s.batch.Put, s.taken = s.batch.Delete[:0], s.batch.Put[:0], s.taken[:0]
	s.gone, s.lifted = s.gone[:0], s.lifted[:0]
	return err
}

func (t *Table) putBack() {
	for _, taken := range t.saver.taken {
		taken.shard.mu.Lock()
		e := &taken.shard.entries[taken.place]
		if e.id() == taken.id && e.opened == taken.opened {
			taken.shard.markDirty(taken.place, e.blocked)
		}
		taken.shard.mu.Unlock()
	}
	for _, i := range t.saver.lifted {
		sh := t.shardOf(t.hasher.hash(i))
		sh.mu.Lock()
		sh.lifted = append(sh.lifted, i)
		sh.mu.Unlock()
	}
	for _, i := range t.saver.gone {
		sh := t.shardOf(t.hasher.hash(i))
		sh.mu.Lock()
		sh.forget(i)
		sh.mu.Unlock()
	}
}
