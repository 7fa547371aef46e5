package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/extauthz"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/telemetry"
)

// watch is how operators see what the service does.
type watch struct {
	observers []extauthz.Observer
	metrics   http.Handler           // nil where there are none
	requests  admin.Observer         // likewise
	searches  *telemetry.Reads       // likewise
	decisions *telemetry.DecisionLog // likewise
	traces    *telemetry.Traces      // likewise
}

// reads returns keys, with its searches counted where metrics are wanted.
func (w *watch) reads(s *settings, keys store.Store) store.Store {
	if s.metricsListen == "" {
		return keys
	}
	w.searches = telemetry.NewReads(keys)
	return w.searches
}

// openWatch makes what the settings ask for, over the parts that are open.
func (v *service) openWatch(ctx context.Context) error {
	if err := v.openDecisions(); err != nil {
		return err
	}
	if err := v.openTraces(ctx); err != nil {
		return err
	}
	return v.openMetrics()
}

func (v *service) openMetrics() error {
	if v.settings.metricsListen == "" {
		return nil
	}
	checks, requests := telemetry.NewChecks(), telemetry.NewRequests()
	sources := telemetry.Sources{
		Version: versionText(), Checks: checks, Requests: requests, Reads: v.watch.searches,
		Cache: v.cache.Stats, Blocks: v.table.Stats, LastUsed: v.uses.Stats, Connections: v.connections.stats,
	}
	if v.localLimits != nil {
		sources.Limiter = v.localLimits.Stats
	}
	if v.sharedLimits != nil {
		sources.Shared = v.sharedLimits.Stats
	}
	if v.sharedBlocks != nil {
		sources.SharedBlocks = v.sharedBlocks.Stats
	}
	if v.etcd != nil {
		sources.Replica = v.etcd.Stats
	}
	if v.usage != nil {
		sources.Usage = v.usage.Stats
	}
	if v.watch.decisions != nil {
		sources.Decisions = v.watch.decisions.Stats
	}
	if v.watch.traces != nil {
		sources.Traces = v.watch.traces.Stats
	}
	registry, err := telemetry.NewRegistry(sources)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	v.watch.metrics = telemetry.Handler(registry, v.logger)
	v.watch.requests = requests
	v.watch.observers = append(v.watch.observers, checks)
	return nil
}

func (v *service) openDecisions() (err error) {
	s := v.settings
	options := telemetry.DecisionLogOptions{DenialsOnly: s.decisionLogDenials, OneIn: s.decisionLogOneIn, Logger: v.logger}
	switch s.decisionLog {
	case "":
		return nil
	case "-":
		options.Writer = s.out
	default:
		options.Path = s.decisionLog
	}
	if v.watch.decisions, err = telemetry.OpenDecisionLog(options); err != nil {
		return err
	}
	v.watch.observers = append(v.watch.observers, v.watch.decisions)
	return nil
}

func (v *service) openTraces(ctx context.Context) (err error) {
	if v.settings.otlpEndpoint == "" && !tracedByEnvironment() {
		return nil
	}
	v.watch.traces, err = telemetry.NewTraces(ctx, telemetry.TracesOptions{Endpoint: v.settings.otlpEndpoint, Version: versionText(), Logger: v.logger})
	if err != nil {
		return err
	}
	v.watch.observers = append(v.watch.observers, v.watch.traces)
	return nil
}

// tracedByEnvironment reports whether the variables of OpenTelemetry name a
// collector.
func tracedByEnvironment() bool {
	return os.Getenv("OTEL_SDK_DISABLED") != "true" &&
		(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "")
}

// closeTraces sends the last traces, which are not worth a long wait. That
// they are lost is no fault of the service.
func (v *service) closeTraces(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := v.watch.traces.Close(ctx); err != nil {
		v.logger.Warn("some traces were not sent", "error", err)
	}
}

// runDecisions writes the decision log until ctx is done.
func (v *service) runDecisions(ctx context.Context) error {
	if v.watch.decisions == nil {
		return nil
	}
	return v.watch.decisions.Run(ctx)
}

// loggedPerSecond is how extauthz is told of the setting.
func (s *settings) loggedPerSecond() int {
	if s.logDenials == 0 {
		return -1
	}
	return s.logDenials
}
