package admin

import (
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/timing"
)

// How long a wrong password takes for a user who exists and for one who does
// not, in turns, at the cost that a service has.
func BenchmarkWrongPassword(b *testing.B) {
	h := newHasher(DefaultPasswordCost, nil, nil)
	hash, err := h.hash(b.Context(), "correct horse battery staple")
	if err != nil {
		b.Fatal(err)
	}
	var took [2][]time.Duration
	for n := range b.N {
		for i := range took {
			kind := (n + i) % 2
			stored := [2]string{hash, ""}[kind]
			start := time.Now()
			match, _, err := h.verify(b.Context(), stored, "wrong password")
			took[kind] = append(took[kind], time.Since(start))
			if err != nil || match {
				b.Fatal(match, err)
			}
		}
	}
	c := timing.Compare(took[0], took[1])
	b.ReportMetric(c.Distance, "distance")
	b.ReportMetric(c.Critical, "critical")
	b.ReportMetric(float64(c.Medians[1]-c.Medians[0]), "later-ns")
	b.ReportMetric(float64(c.Medians[0]), "median-ns")
}
