package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
	"github.com/tokenkithq/authz/usage"
)

// Sources are where metrics are read from. What is nil is not reported.
type Sources struct {
	// Version is the program's.
	Version  string
	Checks   *Checks
	Requests *Requests
	Reads    *Reads
	Cache    func() store.CacheStats
	Limiter  func() limit.Stats
	Shared   func() lease.Stats // of limits that replicas share
	Blocks   func() block.Stats
	// SharedBlocks are those that replicas share.
	SharedBlocks func() shared.Stats
	// Replica is this one's copy of the store, where replicas share that.
	Replica  func() etcd.Stats
	Usage    func() usage.Stats
	LastUsed func() store.LastUsedStats
	// Connections are those of clients.
	Connections func() ConnectionStats
	// Decisions are those of a [DecisionLog].
	Decisions func() DecisionLogStats
	// Traces are those of [Traces].
	Traces func() TracesStats
}

func (s *Sources) groups() []*group {
	groups := []*group{buildGroup(s.Version)}
	if s.Cache != nil {
		groups = append(groups, cacheGroup(s.Cache))
	}
	if s.Limiter != nil {
		groups = append(groups, limitGroup(s.Limiter))
	}
	if s.Shared != nil {
		groups = append(groups, sharedLimitGroup(s.Shared))
	}
	if s.Blocks != nil {
		groups = append(groups, blockGroup(s.Blocks))
	}
	if s.SharedBlocks != nil {
		groups = append(groups, sharedBlockGroup(s.SharedBlocks))
	}
	if s.Replica != nil {
		groups = append(groups, storeReplicaGroup(s.Replica))
	}
	if s.Usage != nil {
		groups = append(groups, usageGroup(s.Usage))
	}
	if s.LastUsed != nil {
		groups = append(groups, lastUsedGroup(s.LastUsed))
	}
	if s.Connections != nil {
		groups = append(groups, connectionGroup(s.Connections))
	}
	if s.Decisions != nil {
		groups = append(groups, decisionLogGroup(s.Decisions))
	}
	if s.Traces != nil {
		groups = append(groups, tracesGroup(s.Traces))
	}
	return groups
}

// NewRegistry returns a registry of all metrics, with those of the process and
// of the Go runtime. An error names a metric that is there twice.
func NewRegistry(s Sources) (*prometheus.Registry, error) {
	all := []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}
	for _, g := range s.groups() {
		all = append(all, g)
	}
	if s.Checks != nil {
		all = append(all, s.Checks)
	}
	if s.Reads != nil {
		all = append(all, s.Reads)
	}
	if s.Requests != nil {
		all = append(all, s.Requests)
	}
	registry := prometheus.NewRegistry()
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return registry, nil
}

// Describe lists every metric by name, but those of the process and of the Go
// runtime.
func Describe() []Metric {
	every := Sources{
		Cache:        func() store.CacheStats { return store.CacheStats{} },
		Limiter:      func() limit.Stats { return limit.Stats{} },
		Shared:       func() lease.Stats { return lease.Stats{} },
		Blocks:       func() block.Stats { return block.Stats{} },
		SharedBlocks: func() shared.Stats { return shared.Stats{} },
		Replica:      func() etcd.Stats { return etcd.Stats{} },
		Usage:        func() usage.Stats { return usage.Stats{} },
		LastUsed:     func() store.LastUsedStats { return store.LastUsedStats{} },
		Connections:  func() ConnectionStats { return ConnectionStats{} },
		Decisions:    func() DecisionLogStats { return DecisionLogStats{} },
		Traces:       func() TracesStats { return TracesStats{} },
	}
	all := describe(every.groups())
	for _, m := range slices.Concat(NewChecks().metrics(), NewRequests().metrics(), NewReads(nil).metrics()) {
		all = append(all, m.Metric)
	}
	slices.SortFunc(all, byName)
	return all
}

// Handler serves the metrics of a registry at GET /metrics, in the text format
// of Prometheus or as OpenMetrics. It answers four at a time, each within ten
// seconds, and reports a metric that cannot be read to logger.
func Handler(registry *prometheus.Registry, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(logger.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             10 * time.Second,
		EnableOpenMetrics:   true,
	}))
	return mux
}
