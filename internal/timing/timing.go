// Package timing tells whether two kinds of answers can be told apart by how
// long they take.
//
//	c := timing.Compare(unknown, deleted)
//	fmt.Println(c.Distance, c.Critical, c.Medians[1]-c.Medians[0])
//
// Samples of both kinds must be taken in turns, so that whatever else the
// machine does befalls both alike.
package timing

import (
	"math"
	"slices"
	"time"
)

// Comparison is what two sets of samples have in common.
type Comparison struct {
	// Medians are those of the two.
	Medians [2]time.Duration
	// Distance is the Kolmogorov–Smirnov statistic: the largest difference of
	// the shares of samples that are not longer than some time. 0: the same
	// distribution, 1: no sample of one is as short as any of the other.
	Distance float64
	// Critical is the distance that samples of one distribution exceed in one
	// of a hundred cases.
	Critical float64
}

// Compare compares two sets of samples, neither of them empty. It sorts both.
func Compare(a, b []time.Duration) Comparison {
	slices.Sort(a)
	slices.Sort(b)
	n, m := float64(len(a)), float64(len(b))
	c := Comparison{Medians: [2]time.Duration{a[len(a)/2], b[len(b)/2]}, Critical: 1.628 * math.Sqrt((n+m)/(n*m))}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		at := min(a[i], b[j])
		for i < len(a) && a[i] == at {
			i++
		}
		for j < len(b) && b[j] == at {
			j++
		}
		c.Distance = max(c.Distance, math.Abs(float64(i)/n-float64(j)/m))
	}
	return c
}
