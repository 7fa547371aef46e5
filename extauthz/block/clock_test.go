package block_test

import (
	"testing"
	"time"
	"unsafe"
)

// reading makes a reading of a clock whose monotonic part says what the wall
// clock does not, as after the wall clock was set. Package time makes none, so
// this depends on how it stores them; [TestReading] tells when that changes.
func reading(wall time.Time, monotonic int64) time.Time {
	const (
		secondsTo1885 = (1884*365 + 1884/4 - 1884/100 + 1884/400) * 86400
		secondsTo1970 = (1969*365 + 1969/4 - 1969/100 + 1969/400) * 86400
	)
	t := wall.Round(0)
	parts := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t))
	parts.wall = 1<<63 | uint64(wall.Unix()+secondsTo1970-secondsTo1885)<<30 | uint64(wall.Nanosecond())
	parts.ext = monotonic
	return t
}

func TestReading(t *testing.T) {
	wall := time.Date(2026, 2, 3, 4, 5, 6, 789_000_001, time.UTC)
	a, b := reading(wall, 1000), reading(wall.Add(-48*time.Hour), 5000)
	if !a.Round(0).Equal(wall) || a.UnixNano() != wall.UnixNano() {
		t.Errorf("the wall clock reads %v, expected %v", a, wall)
	}
	if d := b.Sub(a); d != 4000 {
		t.Errorf("%v between the readings, expected 4µs", d)
	}
}
