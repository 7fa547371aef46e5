package observability

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenkithq/authz/internal/real"
)

// promtool runs Prometheus' own tool, that of $PROMTOOL or on the PATH.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(cmp.Or(os.Getenv("PROMTOOL"), "promtool"))
	if err != nil {
		real.Missing(t, "there is no promtool; name one in PROMTOOL")
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Stdin = strings.NewReader(stdin)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// checkMetrics has promtool judge the program's own metrics.
func checkMetrics(t *testing.T, text string) {
	t.Helper()
	var own strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "tokenkit_authz_") {
			own.WriteString(line)
		}
	}
	promtool(t, own.String(), "check", "metrics")
}

func TestPromtool(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"rules", []string{"check", "rules", "alerts.yaml"}},
		{"config", []string{"check", "config", "prometheus.yml"}},
		{"tests of rules", []string{"test", "rules", "alerts_test.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) { promtool(t, "", c.args...) })
	}
	t.Run("dashboard", func(t *testing.T) { promtool(t, "", "check", "rules", rulesOfPanels(t)) })
}

// rulesOfPanels writes a file of rules with the queries of the dashboard, which
// has no checker of its own.
func rulesOfPanels(t *testing.T) string {
	t.Helper()
	type rule struct{ Record, Expr string }
	var rules []rule
	for i, q := range queries(t) {
		rules = append(rules, rule{fmt.Sprintf("q:%d", i), strings.ReplaceAll(q.expr, "$__rate_interval", "1m")})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
