package block_test

import (
	"context"
	"errors"
	"net/netip"

	"github.com/tokenkithq/authz/extauthz/block"
)

// memory is a journal that keeps what was saved, and nothing else.
type memory struct {
	state   block.State
	records map[netip.Prefix]block.Record
}

var _ block.Journal = (*memory)(nil)

func newMemory() *memory { return &memory{records: map[netip.Prefix]block.Record{}} }

func (m *memory) State(context.Context) (block.State, error) { return m.state, nil }

func (m *memory) Records(_ context.Context, fn func(*block.Record) error) error {
	for _, record := range m.records {
		if err := fn(&record); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Save(_ context.Context, batch *block.Batch) error {
	for _, prefix := range batch.Delete {
		delete(m.records, prefix)
	}
	for _, record := range batch.Put {
		m.records[record.Prefix] = record
	}
	m.state = batch.State
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
	*memory
	next outcome
	// Where held is set, a save says that it has begun and waits for its
	// outcome.
	held     bool
	begun    chan struct{}
	released chan outcome
	saving   func()          // a save begins
	saved    func(kept bool) // and ends
}

func (f *faulty) Save(ctx context.Context, batch *block.Batch) error {
	f.saving()
	next := f.next
	if f.held {
		f.begun <- struct{}{}
		next = <-f.released
	}
	if next != fails {
		if err := f.memory.Save(ctx, batch); err != nil {
			return err
		}
	}
	f.saved(next != fails)
	if next != succeeds {
		return errSave
	}
	return nil
}
