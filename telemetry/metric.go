package telemetry

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "tokenkit_authz_"

// Metric describes the series of one name.
type Metric struct {
	Name   string
	Kind   string // counter, gauge or histogram
	Labels []string
	Help   string
}

// metric is a Metric that series can be made of.
type metric struct {
	Metric
	desc  *prometheus.Desc
	value prometheus.ValueType
}

func counter(name, help string, labels ...string) *metric {
	return newMetric("counter", prometheus.CounterValue, name, help, labels)
}

func gauge(name, help string, labels ...string) *metric {
	return newMetric("gauge", prometheus.GaugeValue, name, help, labels)
}

func histogram(name, help string, labels ...string) *metric {
	return newMetric("histogram", prometheus.UntypedValue, name, help, labels)
}

func newMetric(kind string, value prometheus.ValueType, name, help string, labels []string) *metric {
	name = namespace + name
	return &metric{
		Metric: Metric{Name: name, Kind: kind, Labels: labels, Help: help},
		desc:   prometheus.NewDesc(name, help, labels, nil),
		value:  value,
	}
}

// sender takes one value of a metric.
type sender func(m *metric, value float64, labels ...string)

// group is a source of metrics that are read together.
type group struct {
	metrics []*metric
	collect func(send sender)
}

var _ prometheus.Collector = (*group)(nil)

// Describe implements [prometheus.Collector].
func (g *group) Describe(to chan<- *prometheus.Desc) {
	for _, m := range g.metrics {
		to <- m.desc
	}
}

// Collect implements [prometheus.Collector].
func (g *group) Collect(to chan<- prometheus.Metric) {
	g.collect(func(m *metric, value float64, labels ...string) {
		made, err := prometheus.NewConstMetric(m.desc, m.value, value, labels...)
		if err != nil {
			made = prometheus.NewInvalidMetric(m.desc, err)
		}
		to <- made
	})
}

func byName(a, b Metric) int { return strings.Compare(a.Name, b.Name) }

// describe lists the metrics of groups by name.
func describe(groups []*group) []Metric {
	var all []Metric
	for _, g := range groups {
		for _, m := range g.metrics {
			all = append(all, m.Metric)
		}
	}
	slices.SortFunc(all, byName)
	return all
}
