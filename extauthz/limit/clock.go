package limit

import "time"

// Clock ties the limiter's own time, which never goes back and never jumps
// while the process runs, to the wall clock. All are in milliseconds since
// 1970 by the clock in question.
type Clock struct {
	Time int64 // the limiter's time
	Wall int64 // the wall clock's, at the same moment
	// Latest is the latest time the wall clock ever showed.
	Latest int64
}

// clock is the limiter's time inside one process.
type clock struct {
	start  time.Time // with a monotonic reading
	base   int64     // limiter time at start
	latest int64     // see [Clock.Latest]; only the constructor and saves touch it
}

// resume starts a clock at a reading, after what a journal last knew. The
// zero Clock begins with the wall clock's time.
func resume(last Clock, now time.Time) clock {
	wall := now.UnixMilli()
	c := clock{start: now, base: wall, latest: max(wall, last.Latest)}
	if last != (Clock{}) {
		// Both wall times were cut to whole milliseconds, so that up to one of
		// the difference may not have passed.
		c.base = last.Time + max(0, wall-last.Wall-1)
	}
	return c
}

// at gives the limiter's time of a reading. Readings from before the start
// count as the start.
func (c *clock) at(now time.Time) int64 {
	return c.base + max(0, int64(now.Sub(c.start)/time.Millisecond))
}

// reading gives what a journal needs to resume after now.
func (c *clock) reading(now time.Time) Clock {
	wall := now.UnixMilli()
	c.latest = max(c.latest, wall)
	return Clock{Time: c.at(now), Wall: wall, Latest: c.latest}
}
