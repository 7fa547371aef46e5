package telemetry

import (
	"context"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz"
)

// gathered are series by name and labels, as "name{label=value}".
type gathered map[string]*dto.Metric

func gather(t testing.TB, c prometheus.Collector) gathered {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := gathered{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			all[name] = m
		}
	}
	return all
}

func (g gathered) counter(name string) float64 {
	if m := g[namespace+name]; m != nil {
		return m.GetCounter().GetValue()
	}
	return math.NaN()
}

func decided(reason apikey.Reason) extauthz.Checked {
	return extauthz.Checked{Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: reason}}}
}

// Every reason is a series from the start, and each Check counts once.
func TestChecksByReason(t *testing.T) {
	c := NewChecks()
	for i, reason := range apikey.Reasons() {
		for range i + 1 {
			c.Checked(t.Context(), decided(reason))
		}
	}
	got := gather(t, c)
	for i, reason := range apikey.Reasons() {
		result := "denied"
		if reason == apikey.ReasonAllowed || reason == apikey.ReasonAnonymous {
			result = "allowed"
		}
		if n := got.counter("checks_total reason=" + reason.String() + " result=" + result); n != float64(i+1) {
			t.Errorf("%s %s: %v, want %d", result, reason, n, i+1)
		}
	}
	if n := len(apikey.Reasons()); n >= maxReasons {
		t.Errorf("%d reasons do not fit", n)
	}
}

func TestCheckErrors(t *testing.T) {
	c := NewChecks()
	for _, code := range []codes.Code{codes.Unavailable, codes.Unavailable, codes.Canceled, codes.Internal} {
		c.Checked(t.Context(), extauthz.Checked{Err: status.Error(code, "no")})
	}
	got := gather(t, c)
	for code, want := range map[codes.Code]float64{codes.Unavailable: 2, codes.Canceled: 1, codes.Internal: 1, codes.InvalidArgument: 0} {
		if n := got.counter("check_errors_total code=" + code.String()); n != want {
			t.Errorf("%s: %v, want %v", code, n, want)
		}
	}
	for _, reason := range apikey.Reasons() {
		for _, result := range []string{"allowed", "denied"} {
			if n := got.counter("checks_total reason=" + reason.String() + " result=" + result); n > 0 {
				t.Errorf("an error counts as %s", reason)
			}
		}
	}
}

func TestCountedFailures(t *testing.T) {
	c := NewChecks()
	check := decided(apikey.ReasonOrigin)
	c.Checked(t.Context(), check)
	check.Counted = true
	c.Checked(t.Context(), check)
	if n := gather(t, c).counter("check_failures_counted_total"); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
}

// The histogram is what counting one by one makes of it.
func TestCheckDurations(t *testing.T) {
	if n := len(checkBounds()); n > maxBounds {
		t.Fatalf("%d bounds do not fit", n)
	}
	rapid.Check(t, func(rt *rapid.T) {
		c := NewChecks()
		bounds := checkBounds()
		want := make([]uint64, len(bounds))
		var sum time.Duration
		all := rapid.SliceOf(rapid.OneOf(rapid.SampledFrom(bounds), rapid.Map(rapid.Int64Range(0, int64(2*time.Second)), func(n int64) time.Duration { return time.Duration(n) }))).Draw(rt, "durations")
		for _, took := range all {
			check := decided(apikey.ReasonAllowed)
			check.Duration = took
			c.Checked(t.Context(), check)
			sum += took
			for i, bound := range bounds {
				if took <= bound {
					want[i]++
				}
			}
		}
		got := gather(t, c)[namespace+"check_duration_seconds"].GetHistogram()
		if got.GetSampleCount() != uint64(len(all)) || got.GetSampleSum() != sum.Seconds() {
			rt.Errorf("%d in %v s, want %d in %v", got.GetSampleCount(), got.GetSampleSum(), len(all), sum.Seconds())
		}
		for i, bucket := range got.GetBucket()[:len(bounds)] {
			if bucket.GetUpperBound() != bounds[i].Seconds() || bucket.GetCumulativeCount() != want[i] {
				rt.Errorf("up to %v: %d, want %d up to %v", bucket.GetUpperBound(), bucket.GetCumulativeCount(), want[i], bounds[i])
			}
		}
	})
}

// Whoever counts at the same time loses nothing.
func TestChecksConcurrently(t *testing.T) {
	const workers, each = 16, 1000
	c := NewChecks()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				c.Checked(t.Context(), decided(apikey.ReasonAllowed))
			}
		})
	}
	gather(t, c) // while they count
	wg.Wait()
	if n := gather(t, c).counter("checks_total reason=allowed result=allowed"); n != workers*each {
		t.Errorf("%v, want %d", n, workers*each)
	}
}

// heard keeps the reasons that it was told of.
type heard []apikey.Reason

func (h *heard) Checked(_ context.Context, c extauthz.Checked) { *h = append(*h, c.Reason) }

func TestJoin(t *testing.T) {
	if Join() != nil {
		t.Error("nobody is an observer")
	}
	var a, b heard
	Join(&a).Checked(t.Context(), decided(apikey.ReasonScope))
	Join(&a, &b).Checked(t.Context(), decided(apikey.ReasonOrigin))
	if !slices.Equal(a, heard{apikey.ReasonScope, apikey.ReasonOrigin}) || !slices.Equal(b, heard{apikey.ReasonOrigin}) {
		t.Errorf("heard %v and %v", a, b)
	}
}

func TestChecksAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget on purpose under the race detector")
	}
	c, check := NewChecks(), decided(apikey.ReasonAllowed)
	if n := testing.AllocsPerRun(1000, func() { c.Checked(t.Context(), check) }); n != 0 {
		t.Errorf("%v allocations a Check", n)
	}
}

func BenchmarkChecks(b *testing.B) {
	c, check := NewChecks(), decided(apikey.ReasonAllowed)
	ctx := b.Context()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.Checked(ctx, check)
		}
	})
	b.Run("all", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				c.Checked(ctx, check)
			}
		})
	})
}
