package limit_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// memory is a journal that keeps what was saved, and nothing else.
type memory struct {
	state   limit.State
	records map[apikey.KeyID]limit.Record
}

var _ limit.Journal = (*memory)(nil)

func newMemory() *memory { return &memory{records: map[apikey.KeyID]limit.Record{}} }

func (m *memory) State(context.Context) (limit.State, error) { return m.state, nil }

func (m *memory) Records(_ context.Context, fn func(*limit.Record) error) error {
	for _, record := range m.records {
		if err := fn(&record); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Save(_ context.Context, batch *limit.Batch) error {
	for _, id := range batch.Delete {
		delete(m.records, id)
	}
	for _, record := range batch.Put {
		record.Due = slices.Clone(record.Due)
		m.records[record.Key] = record
	}
	m.state = batch.State
	m.state.Unclean = slices.Clone(batch.State.Unclean)
	return nil
}

var errSave = errors.New("the disk is full")

// outcome is what becomes of a save.
type outcome uint8

const (
	succeeds  outcome = iota
	fails             // nothing is kept
	failsKept         // all is kept, but nobody is told
)

// faulty is a journal that fails, or takes its time, when told to.
type faulty struct {
	limit.Journal
	next outcome
	// Where held is set, a save says that it has begun and waits for its
	// outcome.
	held     bool
	begun    chan struct{}
	released chan outcome
	saving   func()                // a save begins
	saved    func(kept, told bool) // and ends
}

func (f *faulty) Save(ctx context.Context, batch *limit.Batch) error {
	f.saving()
	next := f.next
	if f.held {
		f.begun <- struct{}{}
		next = <-f.released
	}
	var err error
	if next != fails {
		if err = f.Journal.Save(ctx, batch); err != nil {
			return err
		}
	}
	f.saved(next != fails, next == succeeds)
	if next != succeeds {
		return errSave
	}
	return nil
}

// savingContext has its limiter save when a call begins to wait for a save:
// what Run would do in another goroutine, but in this one.
type savingContext struct {
	context.Context
	save func() error
	done chan struct{}
}

func newSavingContext(ctx context.Context, save func() error) *savingContext {
	return &savingContext{Context: context.WithoutCancel(ctx), save: save, done: make(chan struct{})}
}

func (c *savingContext) Done() <-chan struct{} {
	if c.save() != nil {
		return closed
	}
	return c.done
}

// Deadline makes the context one that ends by itself.
func (c *savingContext) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }

func (c *savingContext) Err() error { return context.DeadlineExceeded }

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// hopeless is the context of a call that will not wait.
func hopeless(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
