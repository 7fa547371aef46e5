package timing_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/internal/timing"
)

func TestCompare(t *testing.T) {
	ms := func(all ...int) (samples []time.Duration) {
		for _, n := range all {
			samples = append(samples, time.Duration(n)*time.Millisecond)
		}
		return samples
	}
	for _, c := range []struct {
		name     string
		a, b     []time.Duration
		distance float64
		medians  [2]time.Duration
	}{
		{"the same", ms(3, 1, 2), ms(2, 3, 1), 0, [2]time.Duration{2e6, 2e6}},
		{"apart", ms(1, 2), ms(3, 4, 5), 1, [2]time.Duration{2e6, 4e6}},
		{"half apart", ms(1, 2, 5, 6), ms(5, 6), 0.5, [2]time.Duration{5e6, 6e6}},
		{"one of many", ms(1, 1, 1, 1, 9), ms(1), 0.2, [2]time.Duration{1e6, 1e6}},
	} {
		got := timing.Compare(c.a, c.b)
		if math.Abs(got.Distance-c.distance) > 1e-9 || got.Medians != c.medians {
			t.Errorf("%s: got %+v, expected distance %v and medians %v", c.name, got, c.distance, c.medians)
		}
	}
}

// The distance is that which its definition gives at every sample.
func TestDistance(t *testing.T) {
	samples := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.IntRange(0, 9).Draw(t, "d")) }), 1, 30)
	share := func(all []time.Duration, most time.Duration) float64 {
		n := 0
		for _, d := range all {
			if d <= most {
				n++
			}
		}
		return float64(n) / float64(len(all))
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := samples.Draw(t, "a"), samples.Draw(t, "b")
		want := 0.0
		for _, at := range slices.Concat(a, b) {
			want = max(want, math.Abs(share(a, at)-share(b, at)))
		}
		if got := timing.Compare(a, b).Distance; math.Abs(got-want) > 1e-9 {
			t.Errorf("got %v, expected %v", got, want)
		}
	})
}
