package lease

import (
	"context"
	"sync"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Memory is an [Engine] inside the process, for tests and simulations. The
// zero Memory is ready for use.
type Memory struct {
	// Now is the engine's clock. Nil: [time.Now]. It is not to be changed once
	// the engine is in use.
	Now func() time.Time

	mu         sync.Mutex
	accounts   map[apikey.KeyID]*Account
	replicas   map[uint64]time.Time
	generation string
	exchanges  uint64
}

var _ Engine = (*Memory)(nil)

// Exchange implements [Engine].
func (m *Memory) Exchange(ctx context.Context, requests []Request, grants []Grant) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := m.now().UnixMilli()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.accounts == nil {
		m.accounts = map[apikey.KeyID]*Account{}
	}
	for i := range requests {
		r := &requests[i]
		a := m.accounts[r.Key]
		if a == nil {
			a = &Account{}
			m.accounts[r.Key] = a
		}
		grants[i] = a.Exchange(r, now, m.generation)
		m.exchanges++
	}
	return nil
}

// Replicas implements [Engine].
func (m *Memory) Replicas(_ context.Context, replica uint64) (int, error) {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.replicas == nil {
		m.replicas = map[uint64]time.Time{}
	}
	m.replicas[replica] = now
	for r, seen := range m.replicas {
		if now.Sub(seen) > ReplicaLife {
			delete(m.replicas, r)
		}
	}
	return len(m.replicas), nil
}

// Exchanges returns how many requests were carried out.
func (m *Memory) Exchanges() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exchanges
}

// Sweep forgets the accounts that nobody needs any more, and returns how many
// are left.
func (m *Memory) Sweep() int {
	before := m.now().Add(-AccountLife).UnixMilli()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, a := range m.accounts {
		if a.Time < before {
			delete(m.accounts, id)
		}
	}
	return len(m.accounts)
}

// Snapshot returns a copy of all accounts, for [Memory.Restore].
func (m *Memory) Snapshot() map[apikey.KeyID]Account {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[apikey.KeyID]Account, len(m.accounts))
	for id, a := range m.accounts {
		all[id] = a.Clone()
	}
	return all
}

// Restore goes back to a snapshot, as an engine does that failed over to a
// machine which did not have everything, and begins a generation.
func (m *Memory) Restore(all map[apikey.KeyID]Account, generation string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts = make(map[apikey.KeyID]*Account, len(all))
	for id, a := range all {
		clone := a.Clone()
		m.accounts[id] = &clone
	}
	m.generation = generation
}

func (m *Memory) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}
