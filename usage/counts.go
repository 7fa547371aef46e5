package usage

import (
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Outcome is what became of a call of a known key.
type Outcome uint8

// The outcomes, and the number of them.
const (
	Allowed  Outcome = iota // every rule held
	Limited                 // the hourly limit was spent
	Origin                  // the origin was not among the key's
	Address                 // the address was not among the key's
	Scope                   // the request was outside the key's scopes
	State                   // the key was paused or expired
	Outcomes                // how many there are
)

// String returns the outcome's stable name.
func (o Outcome) String() string {
	return [...]string{"allowed", "limited", "origin", "address", "scope", "state", "unknown"}[min(o, Outcomes)]
}

// OutcomeOf returns the outcome that a reason counts as. It reports false for
// a reason that is not about a known key.
func OutcomeOf(reason apikey.Reason) (Outcome, bool) {
	switch reason {
	case apikey.ReasonAllowed:
		return Allowed, true
	case apikey.ReasonRateLimit:
		return Limited, true
	case apikey.ReasonOrigin:
		return Origin, true
	case apikey.ReasonAddress:
		return Address, true
	case apikey.ReasonScope:
		return Scope, true
	case apikey.ReasonDisabled, apikey.ReasonExpired:
		return State, true
	}
	return 0, false
}

// Counts are numbers of calls, by [Outcome].
type Counts [Outcomes]uint64

// Add adds other to c.
func (c *Counts) Add(other *Counts) {
	for i := range c {
		c[i] += other[i]
	}
}

// Total returns the number of calls, whatever became of them.
func (c Counts) Total() uint64 {
	var total uint64
	for _, n := range c {
		total += n
	}
	return total
}

// Resolution is the length of the periods that calls are counted by.
type Resolution uint8

// The resolutions.
const (
	Minute Resolution = iota
	Hour
	Day // from midnight to midnight, UTC
)

// ParseResolution reads "minute", "hour" or "day".
func ParseResolution(text string) (Resolution, error) {
	for r := Minute; r <= Day; r++ {
		if text == r.String() {
			return r, nil
		}
	}
	return 0, fmt.Errorf("resolution %q: expected minute, hour or day", text)
}

// String returns what [ParseResolution] reads.
func (r Resolution) String() string {
	return [...]string{"minute", "hour", "day", "unknown"}[min(r, Day+1)]
}

// Minutes returns the length of a period in minutes.
func (r Resolution) Minutes() int64 { return [...]int64{1, 60, 24 * 60, 1}[min(r, Day+1)] }

// Duration returns the length of a period.
func (r Resolution) Duration() time.Duration { return time.Duration(r.Minutes()) * time.Minute }

// Start returns the first minute of the period that minute is in, both counted
// from the beginning of 1970 in UTC.
func (r Resolution) Start(minute int64) int64 {
	length := r.Minutes()
	return minute - ((minute%length)+length)%length
}

// maxMinute is the last minute of the year 9999, the last one whose time can
// be written in RFC 3339.
const maxMinute = 253402300799 / 60

// minuteOf returns the minutes from 1970 to now. A time before 1970 or after
// 9999 is taken for the nearest that is not.
func minuteOf(now time.Time) int64 {
	return min(max(now.Unix(), 0)/60, maxMinute)
}

func timeOf(minute int64) time.Time { return time.Unix(minute*60, 0).UTC() }
