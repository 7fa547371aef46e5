package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// Reads is a [store.Store] that counts how long the searches for keys take
// that reach it. Put beneath a [store.Cache] it sees what the cache does not
// know. It is safe for concurrent use where the store is.
type Reads struct {
	store.Store
	bounds []time.Duration
	took   durations
	failed atomic.Uint64

	duration, failures *metric
}

var (
	_ store.Store          = (*Reads)(nil)
	_ prometheus.Collector = (*Reads)(nil)
)

// NewReads counts the searches of inner.
func NewReads(inner store.Store) *Reads {
	return &Reads{
		Store:    inner,
		bounds:   checkBounds(),
		duration: histogram("store_read_duration_seconds", "How long searches for keys took that were not in the cache."),
		failures: counter("store_read_failures_total", "Searches for keys that failed; that there is no such key is no failure."),
	}
}

// FindKey implements [store.Keys].
func (r *Reads) FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error) {
	start := time.Now()
	key, err := r.Store.FindKey(ctx, hash)
	r.took.observe(r.bounds, time.Since(start))
	if err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil {
		r.failed.Add(1)
	}
	return key, err
}

func (r *Reads) metrics() []*metric { return []*metric{r.duration, r.failures} }

// Describe implements [prometheus.Collector].
func (r *Reads) Describe(to chan<- *prometheus.Desc) {
	for _, m := range r.metrics() {
		to <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (r *Reads) Collect(to chan<- prometheus.Metric) {
	sum := histogramSum{bounds: r.bounds}
	sum.add(&r.took)
	to <- sum.metric(r.duration)
	to <- prometheus.MustNewConstMetric(r.failures.desc, r.failures.value, float64(r.failed.Load()))
}
