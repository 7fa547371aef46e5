package telemetry

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

// The list of metrics is what there is. Run with -update to write it anew.
func TestMetricsDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Metrics

` + "`serve --metrics-listen 127.0.0.1:9003`" + ` serves these at ` + "`/metrics`" + `, in the text format of Prometheus or as OpenMetrics, besides those
of the Go runtime (` + "`go_…`" + `) and of the process (` + "`process_…`" + `). Counts start at zero with the process. No label holds a key, a user or
an address. [examples/observability](../examples/observability) has a dashboard and alert rules.

| metric | kind | labels | |
|---|---|---|---|
`)
	for _, m := range Describe() {
		labels := make([]string, len(m.Labels))
		for i, label := range m.Labels {
			labels[i] = "`" + label + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Kind, strings.Join(labels, " "), m.Help)
	}
	const path = "../docs/metrics.md"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil { //nolint:gosec // it is for everybody
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != b.String() {
		t.Errorf("%s is out of date; write it anew with: go test ./telemetry -update", path)
	}
}

// The document names every field of a line.
func TestDecisionLogDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("line.go")
	if err != nil {
		t.Fatal(err)
	}
	fields := regexp.MustCompile(`[,{"]"([a-z_]+)":`).FindAllStringSubmatch(string(source), -1)
	if len(fields) < 10 {
		t.Fatalf("only %d fields were found", len(fields))
	}
	for _, field := range fields {
		if !strings.Contains(string(text), "`"+field[1]+"`") {
			t.Errorf("docs/observability.md does not say what %s is", field[1])
		}
	}
}
