package telemetry

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz"
)

// Checks counts Checks and how long they take. It is safe for concurrent use:
// callers on different cores count apart from each other, and what they
// counted is added up when it is collected.
type Checks struct {
	bounds []time.Duration
	shards []checkShard
	// pool hands each core the shard that it had last.
	pool sync.Pool
	next atomic.Uint32

	total, errors, counted, duration *metric
}

var (
	_ extauthz.Observer    = (*Checks)(nil)
	_ prometheus.Collector = (*Checks)(nil)
)

// maxReasons is more than there are reasons, and maxCodes than gRPC codes.
const maxReasons, maxCodes = 32, 32

type checkShard struct {
	reasons [maxReasons]atomic.Uint64
	errors  [maxCodes]atomic.Uint64
	counted atomic.Uint64
	took    durations
	_       [64]byte // no line of memory is shared with the next
}

// NewChecks returns a Checks that has counted nothing.
func NewChecks() *Checks {
	c := &Checks{
		bounds:   checkBounds(),
		shards:   make([]checkShard, 2*runtime.GOMAXPROCS(0)),
		total:    counter("checks_total", "Checks that were decided, by result (allowed, denied) and reason.", "result", "reason"),
		errors:   counter("check_errors_total", "Checks that could not be decided, by the gRPC code that Envoy got.", "code"),
		counted:  counter("check_failures_counted_total", "Denials that counted towards blocking their address."),
		duration: histogram("check_duration_seconds", "How long it took from when a Check was read until its answer was written, without gRPC."),
	}
	c.pool.New = func() any { return &c.shards[int(c.next.Add(1))%len(c.shards)] }
	return c
}

// Checked implements [extauthz.Observer].
func (c *Checks) Checked(_ context.Context, check extauthz.Checked) {
	shard := c.pool.Get().(*checkShard) //nolint:forcetypeassert // nothing else is in the pool
	if check.Err == nil {
		shard.reasons[check.Reason%maxReasons].Add(1)
	} else {
		shard.errors[status.Code(check.Err)%maxCodes].Add(1)
	}
	if check.Counted {
		shard.counted.Add(1)
	}
	shard.took.observe(c.bounds, check.Duration)
	c.pool.Put(shard)
}

func (c *Checks) metrics() []*metric {
	return []*metric{c.total, c.errors, c.counted, c.duration}
}

// Describe implements [prometheus.Collector].
func (c *Checks) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.metrics() {
		to <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (c *Checks) Collect(to chan<- prometheus.Metric) {
	var reasons, errors [32]float64
	var counted float64
	took := histogramSum{bounds: c.bounds}
	for i := range c.shards {
		s := &c.shards[i]
		for r := range s.reasons {
			reasons[r] += float64(s.reasons[r].Load())
		}
		for e := range s.errors {
			errors[e] += float64(s.errors[e].Load())
		}
		counted += float64(s.counted.Load())
		took.add(&s.took)
	}
	for _, reason := range apikey.Reasons() {
		result := "denied"
		if (apikey.Decision{Reason: reason}).Allowed() {
			result = "allowed"
		}
		to <- prometheus.MustNewConstMetric(c.total.desc, c.total.value, reasons[reason], result, reason.String())
	}
	for code, n := range errors {
		// Those that a Check can come to are there from the start.
		if code := codes.Code(code); n > 0 || code == codes.Unavailable || code == codes.Canceled || code == codes.DeadlineExceeded || code == codes.InvalidArgument {
			to <- prometheus.MustNewConstMetric(c.errors.desc, c.errors.value, n, code.String())
		}
	}
	to <- prometheus.MustNewConstMetric(c.counted.desc, c.counted.value, counted)
	to <- took.metric(c.duration)
}

// observers hear of Checks one after the other.
type observers []extauthz.Observer

// Join returns an observer that tells all of these; nil where there are none.
func Join(all ...extauthz.Observer) extauthz.Observer {
	switch len(all) {
	case 0:
		return nil
	case 1:
		return all[0]
	}
	return observers(all)
}

// Checked implements [extauthz.Observer].
func (all observers) Checked(ctx context.Context, check extauthz.Checked) {
	for _, o := range all {
		o.Checked(ctx, check)
	}
}
