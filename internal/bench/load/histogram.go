//go:build linux

package load

import (
	"math"
	"math/bits"
	"time"
)

// stepBits is how fine a histogram is: each power of two has 2^stepBits steps,
// so that a value is known to 1 in 64.
const stepBits = 6

// histogram counts durations in steps that grow with them.
type histogram struct {
	counts [(64 - stepBits) << stepBits]uint32
	total  int
	max    time.Duration
}

// step returns where d is counted.
func step(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(bits.Len64(v)-stepBits-1, 0)
	return shift<<stepBits + int(v>>shift)
}

// value returns the middle of a step.
func value(step int) time.Duration {
	if step < 2<<stepBits {
		return time.Duration(step)
	}
	shift := step>>stepBits - 1
	low := uint64(step-shift<<stepBits) << shift
	return time.Duration(low + 1<<shift/2)
}

func (h *histogram) record(d time.Duration) {
	h.counts[step(d)]++
	h.total++
	h.max = max(h.max, d)
}

// quantile returns the duration that a share q of all, from 0 to 1, does not
// pass; zero where there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	left := max(int(math.Ceil(q*float64(h.total))), 1)
	for i, n := range h.counts {
		if left -= int(n); left <= 0 {
			return min(value(i), h.max)
		}
	}
	return h.max
}
