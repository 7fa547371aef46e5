//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// figure is what is read from the result of a job.
type figure func(*load.Result) float64

// The processes of a job, in the order of their ids.
const (
	envoyProcess = iota
	serverProcess
)

func perSecond(r *load.Result) float64 { return r.Rate() }
func p50(r *load.Result) float64       { return micros(r.P50) }
func p99(r *load.Result) float64       { return micros(r.P99) }
func envoyCPU(r *load.Result) float64  { return micros(r.CPUPerRequest(envoyProcess)) }
func serverCPU(r *load.Result) float64 { return micros(r.CPUPerRequest(serverProcess)) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// spread is the middle and the ends of what the rounds gave.
type spread struct{ median, low, high float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// of returns the spread of a figure over the rounds.
func (at *line) of(f figure) spread {
	values := make([]float64, len(at.results))
	for i, r := range at.results {
		values[i] = f(r)
	}
	return spreadOf(values)
}

// ratio returns the spread of a figure of one line to that of another in the
// same round.
func ratio(f figure, of, to *line) spread {
	n := min(len(of.results), len(to.results))
	values := make([]float64, n)
	for i := range n {
		values[i] = f(of.results[i]) / f(to.results[i])
	}
	return spreadOf(values)
}

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.low, s.high) }

// table prints what was measured of each line, in microseconds.
func (l *lab) table(lines ...*line) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\trequests/s (range)\tp50 µs\tp99 µs (range)\tEnvoy CPU µs\tserver CPU µs (range)\tserver MiB")
	for _, at := range lines {
		rate, tail := at.of(perSecond), at.of(p99)
		fmt.Fprintf(w, "%s\t%.0f (%.0f–%.0f)\t%.0f\t%.0f (%.0f–%.0f)\t", at.name, rate.median, rate.low, rate.high, at.of(p50).median, tail.median, tail.low, tail.high)
		if at.envoy == 0 {
			fmt.Fprint(w, "–\t")
		} else {
			fmt.Fprintf(w, "%.1f\t", at.of(envoyCPU).median)
		}
		if at.server == 0 {
			fmt.Fprint(w, "–\t–\n")
			continue
		}
		cpu := at.of(serverCPU)
		fmt.Fprintf(w, "%.1f (%.1f–%.1f)\t%d\n", cpu.median, cpu.low, cpu.high, at.rss)
	}
	_ = w.Flush()
	l.print("%s", strings.TrimRight(text.String(), "\n"))
}
