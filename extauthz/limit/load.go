package limit

import (
	"context"
	"fmt"
)

// load fills the limiter from its journal and notes there that it runs.
func (l *Limiter) load(ctx context.Context) error {
	if l.journal == nil {
		l.clock = resume(Clock{}, l.now())
		return nil
	}
	state, err := l.journal.State(ctx)
	if err != nil {
		return fmt.Errorf("loading limits: %w", err)
	}
	// Read after the journal, which may have taken a while to open.
	l.clock = resume(state.Clock, l.now())
	l.unclean = withStart(state, l.clock.base, l.clock.latest)
	if n := len(l.unclean); n > 0 {
		l.lastStop = l.unclean[n-1].Number
	}
	if err := l.journal.Records(ctx, l.loadRecord); err != nil {
		return fmt.Errorf("loading limits: %w", err)
	}
	// Only the state: removing many old records can wait for Run.
	if err := l.saveBatch(ctx, true); err != nil {
		return fmt.Errorf("starting limiter: %w", err)
	}
	return nil
}

func (l *Limiter) loadRecord(record *Record) error {
	s := l.shardOf(record.Key)
	var r ring
	r.restore(record, l.clock.base)
	if r.out == 0 && !l.unsettled(&r, l.clock.base) {
		s.gone = append(s.gone, record.Key)
		return nil
	}
	if found, _ := s.find(record.Key); found != nil {
		return fmt.Errorf("key %d: expected one record, got two", record.Key)
	}
	kept, _ := s.take(record.Key, l.clock.base)
	r.used = true
	*kept = r
	l.rings.Add(1)
	return nil
}
