package extauthz

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// sampler lets a bounded number of log lines a second pass, so that whoever
// sends bad keys fills no disk, and counts the others.
type sampler struct {
	most *atomic.Int64 // lines a second; negative: all

	mu       sync.Mutex
	second   int64
	lines    int64
	withheld uint64
}

// pass reports whether a line may be written now, and how many were withheld
// since the last one that was.
func (s *sampler) pass(now time.Time) (withheld uint64, ok bool) {
	most := s.most.Load()
	if most < 0 {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := now.Unix(); second != s.second {
		s.second, s.lines = second, 0
	}
	if s.lines >= most {
		s.withheld++
		return 0, false
	}
	s.lines++
	withheld, s.withheld = s.withheld, 0
	return withheld, true
}

// SetLoggedPerSecond changes what [AuthorizerOptions] said of LoggedPerSecond,
// for the lines of a [Server] that asks a too.
func (a *Authorizer) SetLoggedPerSecond(n int) {
	if n == 0 {
		n = 10
	}
	a.logged.Store(int64(n))
}

// appendWithheld adds to a line how many like it were not written.
func appendWithheld(attrs []slog.Attr, withheld uint64) []slog.Attr {
	if withheld == 0 {
		return attrs
	}
	return append(attrs, slog.Uint64("withheld", withheld))
}
