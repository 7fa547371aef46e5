package usage

import (
	"context"
	"fmt"
	"time"
)

// expireEvery is how often what is too old is looked for.
const expireEvery = time.Hour

// Run writes what is recorded every [Options.Every], and folds and expires it
// in its time, until ctx is done, and returns nil; what is left is for
// [Recorder.Close]. Failures to write are reported, counted and tried again.
func (r *Recorder) Run(ctx context.Context) error {
	expired := make(chan struct{})
	go func() {
		defer close(expired)
		r.expire(ctx)
	}()
	ticker := time.NewTicker(r.options.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			<-expired
			return nil
		case <-ticker.C:
		}
		// Its error was reported.
		_ = r.step(ctx)
	}
}

// expire has a loop of its own: reading through a large journal must not keep
// others from being written.
func (r *Recorder) expire(ctx context.Context) {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := r.journal.Expire(ctx, r.options.Now()); err != nil && ctx.Err() == nil {
			r.failures.Add(1)
			r.options.Report(fmt.Errorf("removing old usage: %w", err))
		}
	}
}

// Flush writes all that was recorded before it.
func (r *Recorder) Flush(ctx context.Context) error {
	return r.exclusively(ctx, r.flush)
}

// Close writes all that was recorded. Calls recorded afterwards are lost.
// Where it fails it may be called again.
func (r *Recorder) Close(ctx context.Context) error {
	return r.exclusively(ctx, func(ctx context.Context) error {
		if err := r.flush(ctx); err != nil {
			return err
		}
		return r.forgetSome(ctx)
	})
}

// step does what is to be done each [Options.Every].
func (r *Recorder) step(ctx context.Context) error {
	return r.exclusively(ctx, func(ctx context.Context) error {
		began := time.Now()
		if err := r.flush(ctx); err != nil {
			return err
		}
		if err := r.forgetSome(ctx); err != nil {
			return err
		}
		return r.foldSome(ctx, began)
	})
}

// exclusively calls fn while nobody else writes, and reports its error.
func (r *Recorder) exclusively(ctx context.Context, fn func(context.Context) error) error {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return fmt.Errorf("writing usage: %w", ctx.Err())
	}
	err := fn(ctx)
	if err != nil {
		err = fmt.Errorf("writing usage: %w", err)
		r.failures.Add(1)
		if !r.failing && ctx.Err() == nil {
			r.options.Report(err)
		}
	}
	r.failing = err != nil
	return err
}

// flush appends what was recorded to the log, after what could not be
// appended before.
func (r *Recorder) flush(ctx context.Context) error {
	if err := r.appendPending(ctx); err != nil {
		return err
	}
	r.drain()
	return r.appendPending(ctx)
}

func (r *Recorder) appendPending(ctx context.Context) error {
	if r.pending == nil {
		return nil
	}
	if err := r.journal.Append(ctx, r.pending); err != nil {
		return err
	}
	r.spare, r.pending = r.pending.Deltas[:0], nil
	return nil
}

// drain makes an entry of what was recorded, if anything was.
func (r *Recorder) drain() {
	deltas := r.spare
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.table, s.drained = s.drained, s.table
		s.mu.Unlock()
		for j := range s.drained.deltas {
			d := &s.drained.deltas[j]
			if _, gone := r.forgotten[d.Key]; gone {
				continue
			}
			deltas = append(deltas, *d)
			r.openDelta(d)
		}
		s.drained.reset()
	}
	if len(deltas) > 0 {
		r.number++
		r.pending, r.spare = &Entry{Number: r.number, Deltas: deltas}, nil
	}
}
