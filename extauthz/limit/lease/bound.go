package lease

import "sync"

// bound limits how late the engine's clock can be, by what was seen of it.
type bound struct {
	// drift is by one part in how many the engine's clock may run faster than
	// this machine's.
	drift int64
	mu    sync.Mutex
	seen  bool
	// How far the engine's clock was ahead, in milliseconds, of each of ours.
	mono, wall int64
	at         int64 // monotonic time of the last change, in milliseconds
}

const (
	// usualDrift is that of clocks as they are.
	usualDrift = 1000
	// worstDrift is that of a clock slower than the engine's by a twentieth.
	worstDrift = 19
)

// see notes that the engine's clock showed a time after at.
func (b *bound) see(engine int64, at instant) {
	mono, wall := at.mono/1e6, at.wall/1e6
	b.mu.Lock()
	defer b.mu.Unlock()
	apart := max(0, mono-b.at) / b.drift
	if !b.seen {
		b.seen, b.mono, b.wall, b.at = true, engine-mono, engine-wall, mono
		return
	}
	b.mono = min(b.mono+apart, engine-mono)
	b.wall = min(b.wall+apart, engine-wall)
	if apart > 0 || mono < b.at {
		b.at = mono
	}
}

// by returns a time that the engine's clock cannot have passed at; zero
// where nothing is known. Where our two clocks disagree, as after the machine
// slept, the later counts.
func (b *bound) by(at instant) int64 {
	mono, wall := at.mono/1e6, at.wall/1e6
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.seen {
		return 0
	}
	return max(b.mono+mono, b.wall+wall) + max(0, mono-b.at)/b.drift + 1
}
