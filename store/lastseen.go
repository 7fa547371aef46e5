package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// LastSeenOptions says how often a [LastSeen] writes.
type LastSeenOptions struct {
	// Every is how long a use of a session may wait to be written. Zero: one
	// minute.
	Every time.Duration
	// Limit is of how many sessions uses may wait to be written. While more
	// are in use, theirs are dropped. Zero: 10,000.
	Limit int
	// Report is told of each time that uses could not be written; they are
	// kept and tried again. Nil: nobody is told.
	Report func(error)
}

// The defaults of [LastSeenOptions].
const (
	DefaultLastSeenEvery = time.Minute
	DefaultLastSeenLimit = 10_000
)

// LastSeen notes when sessions were last seen and writes it behind. A use that
// was not yet written is lost with the process; [LastSeen.Flush] writes all of
// them.
type LastSeen struct {
	sessions Sessions
	options  LastSeenOptions

	mu   sync.Mutex
	seen map[SessionID]time.Time // uses that are not written
}

// NewLastSeen returns a LastSeen that writes to sessions once [LastSeen.Run]
// runs.
func NewLastSeen(sessions Sessions, o LastSeenOptions) *LastSeen {
	if o.Every <= 0 {
		o.Every = DefaultLastSeenEvery
	}
	if o.Limit <= 0 {
		o.Limit = DefaultLastSeenLimit
	}
	if o.Report == nil {
		o.Report = func(error) {}
	}
	return &LastSeen{sessions: sessions, options: o, seen: map[SessionID]time.Time{}}
}

// Touch notes that a session was seen at now. It never moves a time back and
// waits for nothing but other calls.
func (l *LastSeen) Touch(id SessionID, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(id, wholeSeconds(now))
}

func (l *LastSeen) note(id SessionID, now time.Time) {
	before, found := l.seen[id]
	if found && !now.After(before) || !found && len(l.seen) >= l.options.Limit {
		return
	}
	l.seen[id] = now
}

// Run writes the noted uses every [LastSeenOptions.Every] until ctx is done; it
// leaves the last ones to [LastSeen.Flush]. It returns nil when ctx is done and
// an error only when there is no use in going on, the store being closed.
func (l *LastSeen) Run(ctx context.Context) error {
	return writeBehind(ctx, l.options.Every, l.Flush, l.options.Report)
}

// Flush writes the uses noted so far. Those that could not be written are
// kept.
func (l *LastSeen) Flush(ctx context.Context) error {
	l.mu.Lock()
	batch := l.seen
	l.seen = map[SessionID]time.Time{}
	l.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := l.sessions.TouchSessions(ctx, batch)
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, at := range batch {
		l.note(id, at)
	}
	return fmt.Errorf("writing when sessions were last seen: %w", err)
}
