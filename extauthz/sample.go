package extauthz

import (
	"log/slog"
	"sync"
	"time"
)

// sampler lets a bounded number of log lines a second pass, so that whoever
// sends bad keys fills no disk, and counts the others.
type sampler struct {
	perSecond int // negative: all

	mu       sync.Mutex
	second   int64
	lines    int
	withheld uint64
}

// pass reports whether a line may be written now, and how many were withheld
// since the last one that was.
func (s *sampler) pass(now time.Time) (withheld uint64, ok bool) {
	if s.perSecond < 0 {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := now.Unix(); second != s.second {
		s.second, s.lines = second, 0
	}
	if s.lines >= s.perSecond {
		s.withheld++
		return 0, false
	}
	s.lines++
	withheld, s.withheld = s.withheld, 0
	return withheld, true
}

func loggedPerSecond(n int) int {
	if n == 0 {
		return 10
	}
	return n
}

// appendWithheld adds to a line how many like it were not written.
func appendWithheld(attrs []slog.Attr, withheld uint64) []slog.Attr {
	if withheld == 0 {
		return attrs
	}
	return append(attrs, slog.Uint64("withheld", withheld))
}
