package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checkBounds are the upper bounds of the buckets of Checks. One that finds
// everything in memory takes about a microsecond; Envoy waits 200 ms unless it
// is told otherwise.
func checkBounds() []time.Duration {
	const us, ms = time.Microsecond, time.Millisecond
	return []time.Duration{us, 2500 * time.Nanosecond, 5 * us, 10 * us, 25 * us, 50 * us, 100 * us, 250 * us, 500 * us, ms, 5 * ms, 25 * ms, 100 * ms, 250 * ms, time.Second}
}

// maxBounds is how many bounds a durations may have.
const maxBounds = 15

// durations counts durations by buckets. It is for one writer most of the
// time, and for any number of readers.
type durations struct {
	counts [maxBounds + 1]atomic.Uint64 // the last is of those above all bounds
	sum    atomic.Int64                 // nanoseconds
}

func (d *durations) observe(bounds []time.Duration, took time.Duration) {
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	d.counts[i].Add(1)
	d.sum.Add(int64(took))
}

// histogramSum adds up durations that share bounds.
type histogramSum struct {
	bounds []time.Duration
	counts [maxBounds + 1]uint64
	sum    time.Duration
}

func (h *histogramSum) add(d *durations) {
	for i := range h.counts {
		h.counts[i] += d.counts[i].Load()
	}
	h.sum += time.Duration(d.sum.Load())
}

func (h *histogramSum) metric(m *metric, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.bounds))
	var count uint64
	for i, bound := range h.bounds {
		count += h.counts[i]
		buckets[bound.Seconds()] = count
	}
	count += h.counts[len(h.bounds)]
	made, err := prometheus.NewConstHistogram(m.desc, count, h.sum.Seconds(), buckets, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(m.desc, err)
	}
	return made
}
