package admin

import (
	"context"
	"sync"
	"time"

	"github.com/tokenkithq/authz/store"
)

const (
	// seenInterval is how late the time when a session was last seen may be.
	seenInterval = time.Minute
	// maxSeen is of how many sessions that time may wait to be written; of
	// more it is not noted.
	maxSeen = 10_000
)

// seenSessions notes when sessions are used, to be written behind. The zero
// value is ready.
type seenSessions struct {
	mutex sync.Mutex
	at    map[store.SessionID]time.Time
}

func (s *seenSessions) note(session *store.Session, now time.Time) {
	if now.Sub(session.LastSeenAt) < seenInterval {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.at == nil {
		s.at = map[store.SessionID]time.Time{}
	}
	if _, noted := s.at[session.ID]; noted || len(s.at) < maxSeen {
		s.at[session.ID] = now
	}
}

// lastSeen returns when a session was last seen, written or not.
func (s *seenSessions) lastSeen(session *store.Session) time.Time {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if at := s.at[session.ID]; at.After(session.LastSeenAt) {
		return at
	}
	return session.LastSeenAt
}

// write tells the store what was noted. What cannot be written is noted again
// when the sessions are used again.
func (s *seenSessions) write(ctx context.Context, sessions store.Sessions) error {
	s.mutex.Lock()
	noted := s.at
	s.at = nil
	s.mutex.Unlock()
	if len(noted) == 0 {
		return nil
	}
	return sessions.TouchSessions(ctx, noted)
}
