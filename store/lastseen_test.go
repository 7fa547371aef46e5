package store_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/store"
)

// seenSessions keeps what is written, and fails as it is told to.
type seenSessions struct {
	store.Sessions
	mu     sync.Mutex
	writes int
	seen   map[store.SessionID]time.Time
	err    error
}

func (s *seenSessions) TouchSessions(_ context.Context, seen map[store.SessionID]time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.writes++
	maps.Copy(s.seen, seen)
	return nil
}

func (s *seenSessions) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func TestLastSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := &seenSessions{seen: map[store.SessionID]time.Time{}}
		reports := 0
		l := store.NewLastSeen(sessions, store.LastSeenOptions{Limit: 2, Report: func(error) { reports++ }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		one, two, three := store.SessionID{1}, store.SessionID{2}, store.SessionID{3}
		wait := func() {
			time.Sleep(store.DefaultLastSeenEvery)
			synctest.Wait()
		}
		wants := func(writes int, want map[store.SessionID]time.Time) {
			t.Helper()
			sessions.mu.Lock()
			defer sessions.mu.Unlock()
			if sessions.writes != writes || !maps.Equal(sessions.seen, want) {
				t.Fatalf("after %d writes %v, want after %d %v", sessions.writes, sessions.seen, writes, want)
			}
		}
		for range 100 {
			l.Touch(one, noon.Add(2*time.Second+time.Millisecond))
			l.Touch(one, noon)
		}
		wants(0, nil)
		wait()
		wants(1, map[store.SessionID]time.Time{one: noon.Add(2 * time.Second)})
		wait()
		wants(1, map[store.SessionID]time.Time{one: noon.Add(2 * time.Second)})

		sessions.fail(store.ErrUnavailable)
		l.Touch(two, noon.Add(5*time.Second))
		wait()
		if reports != 1 {
			t.Errorf("%d reports", reports)
		}
		l.Touch(two, noon.Add(4*time.Second))
		l.Touch(one, noon.Add(6*time.Second))
		l.Touch(three, noon) // one too many
		sessions.fail(nil)
		wait()
		wants(2, map[store.SessionID]time.Time{one: noon.Add(6 * time.Second), two: noon.Add(5 * time.Second)})

		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.Touch(three, noon)
		if err := l.Flush(t.Context()); err != nil || !sessions.seen[three].Equal(noon) {
			t.Errorf("flushing at the end: %v", err)
		}
		l.Touch(one, noon.Add(time.Hour))
		sessions.fail(store.ErrClosed)
		if err := l.Run(t.Context()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("on a closed store: %v", err)
		}
	})
}
