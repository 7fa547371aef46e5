// Package telemetry shows operators what the service does: metrics for
// Prometheus, a log of decisions, and traces.
//
// A [Checks] counts Checks as an [extauthz.Observer]. Whatever else is worth
// knowing is counted where it happens, and only read when it is asked for:
//
//	checks := telemetry.NewChecks()
//	server, err := extauthz.NewServer(authorizer, extauthz.Options{Observer: checks})
//	registry, err := telemetry.NewRegistry(telemetry.Sources{Checks: checks, Cache: cache.Stats})
//	http.Handle("/metrics", telemetry.Handler(registry, logger))
//
// No metric has a label that a client, a key or a user chooses the value of:
// how many series there are is known beforehand. [Describe] lists them all.
package telemetry
