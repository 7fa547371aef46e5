package main

import (
	"fmt"
	"net/http"

	"github.com/tokenkithq/authz/extauthz"
	"github.com/tokenkithq/authz/telemetry"
)

// watch is how operators see what the service does.
type watch struct {
	observers []extauthz.Observer
	metrics   http.Handler // nil where there are none
}

// openWatch makes what the settings ask for, over the parts that are open.
func (v *service) openWatch() error {
	if v.settings.metricsListen == "" {
		return nil
	}
	checks := telemetry.NewChecks()
	sources := telemetry.Sources{
		Version: versionText(), Checks: checks,
		Cache: v.cache.Stats, Limiter: v.limiter.Stats, Blocks: v.table.Stats, LastUsed: v.uses.Stats,
	}
	if v.usage != nil {
		sources.Usage = v.usage.Stats
	}
	registry, err := telemetry.NewRegistry(sources)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	v.watch.metrics = telemetry.Handler(registry, v.logger)
	v.watch.observers = append(v.watch.observers, checks)
	return nil
}
