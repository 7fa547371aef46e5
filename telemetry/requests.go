package telemetry

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Requests counts requests to the admin API by route and status, how long they
// take, and what becomes of logins. It is safe for concurrent use.
type Requests struct {
	bounds []time.Duration

	mu     sync.Mutex
	counts map[requestKind]uint64
	took   map[string]*durations // by route

	total, duration, logins *metric
}

var _ prometheus.Collector = (*Requests)(nil)

type requestKind struct {
	route  string
	status int
}

// NewRequests returns a Requests that has counted nothing.
func NewRequests() *Requests {
	const ms = time.Millisecond
	return &Requests{
		bounds:   []time.Duration{ms, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, time.Second, 5 * time.Second},
		counts:   map[requestKind]uint64{},
		took:     map[string]*durations{},
		total:    counter("admin_requests_total", "Requests to the admin API by route and HTTP status. Route other is what has none; refused is what was refused before.", "route", "status"),
		duration: histogram("admin_request_duration_seconds", "How long requests to the admin API took, by route.", "route"),
		logins:   counter("admin_logins_total", "Logins by result: ok, refused, throttled after too many failures, or failed for another cause.", "result"),
	}
}

// Served counts a request to a route, of which there must only be so many,
// that was answered with status.
func (r *Requests) Served(route string, status int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[requestKind{route, status}]++
	d := r.took[route]
	if d == nil {
		d = &durations{}
		r.took[route] = d
	}
	d.observe(r.bounds, took)
}

func (r *Requests) metrics() []*metric { return []*metric{r.total, r.duration, r.logins} }

// Describe implements [prometheus.Collector].
func (r *Requests) Describe(to chan<- *prometheus.Desc) {
	for _, m := range r.metrics() {
		to <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (r *Requests) Collect(to chan<- prometheus.Metric) {
	logins := map[string]uint64{"ok": 0, "refused": 0, "throttled": 0, "failed": 0}
	r.mu.Lock()
	defer r.mu.Unlock()
	for kind, n := range r.counts {
		to <- prometheus.MustNewConstMetric(r.total.desc, r.total.value, float64(n), kind.route, strconv.Itoa(kind.status))
		if isLogin(kind.route) {
			logins[loginResult(kind.status)] += n
		}
	}
	for route, took := range r.took {
		sum := histogramSum{bounds: r.bounds}
		sum.add(took)
		to <- sum.metric(r.duration, route)
	}
	for result, n := range logins {
		to <- prometheus.MustNewConstMetric(r.logins.desc, r.logins.value, float64(n), result)
	}
}

func isLogin(route string) bool {
	return strings.HasPrefix(route, "POST ") && (strings.HasSuffix(route, "/login") || strings.HasSuffix(route, "/login/cookie"))
}

func loginResult(status int) string {
	switch {
	case status < 300:
		return "ok"
	case status == 401:
		return "refused"
	case status == 429:
		return "throttled"
	}
	return "failed"
}
