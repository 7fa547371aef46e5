//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// watched measures what it costs to be watched: calls straight to the service,
// which spend a greater part of its work on that than calls through Envoy.
func (l *lab) watched() error {
	keys, err := keyStoreOf(l.ctx, l.program, 1000, true)
	if err != nil {
		return err
	}
	metrics := []string{"--metrics-listen", "127.0.0.1:0"}
	decisions := []string{"--decision-log", filepath.Join(l.dir, "decisions.log")}
	// Nobody listens there, and these calls name no trace: each begins one.
	traces := []string{"--otlp-endpoint", "http://127.0.0.1:1"}
	const sampler, share = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	var lines []*line
	for _, c := range []struct {
		name    string
		args    []string
		sampled string // share of the calls that are traced; empty: all
	}{
		{"nothing", nil, ""},
		{"metrics", metrics, ""},
		{"metrics, denials logged", append(append([]string{"--decision-log-denials-only"}, metrics...), decisions...), ""},
		{"metrics, one decision in 100 logged", append(append([]string{"--decision-log-one-in", "100"}, metrics...), decisions...), ""},
		{"metrics, every decision logged", append(metrics, decisions...), ""},
		{"one call in 100 traced", traces, "0.01"},
		{"every call traced", traces, ""},
	} {
		if c.sampled != "" { // the service has no flag for what OpenTelemetry names a variable for
			if err := errors.Join(os.Setenv(sampler, "parentbased_traceidratio"), os.Setenv(share, c.sampled)); err != nil {
				return err
			}
		}
		ours, err := l.serve(keys, 1, c.args...)
		if err := errors.Join(err, os.Unsetenv(sampler), os.Unsetenv(share)); err != nil {
			return err
		}
		lines = append(lines, &line{name: c.name, server: ours.pid(), job: load.Job{Address: ours.address, GRPC: true, Secrets: keys.secrets, Pick: load.Zipf}})
	}
	if err := l.inRounds(lines...); err != nil {
		return err
	}
	l.table(lines...)
	for _, other := range lines[1:] {
		l.print("%s, to nothing: server CPU %v", other.name, ratio(serverCPU, other, lines[0]))
	}
	return nil
}
