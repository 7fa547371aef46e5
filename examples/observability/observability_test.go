package observability

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenkithq/authz/examples/exampletest"
	"github.com/tokenkithq/authz/internal/etcdtest"
)

// query is an expression and where it stands.
type query struct{ where, expr string }

// series are the label values of each metric, by its name and the label's.
type series map[string]map[string][]string

var (
	sampleLine = regexp.MustCompile(`^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? `)
	labelPair  = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
	// selector matches a metric of ours or of the process with its matchers.
	selector = regexp.MustCompile(`\b((?:tokenkit_authz|process|go)_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

func TestMain(m *testing.M) {
	etcdtest.Main()
	os.Exit(m.Run())
}

// scraped runs the program with all of its metrics, alone and as a replica, and
// returns what it shows.
func scraped(t *testing.T) (series, string) {
	t.Helper()
	program, all := exampletest.Build(t), series{"up": {}}
	engine := strings.Replace(etcdtest.Start(t, 1).Members[0].Endpoint, "http", "etcd", 1)
	replica := all.scrape(t, exampletest.Serve(t, program, "--metrics-listen", "127.0.0.1:0", "--store", engine+"/keys", "--limits", engine+"/limits"))
	alone := all.scrape(t, exampletest.Serve(t, program,
		"--metrics-listen", "127.0.0.1:0", "--decision-log", filepath.Join(t.TempDir(), "decisions.log"), "--otlp-endpoint", "http://127.0.0.1:1"))
	t.Run("promtool, replica", func(t *testing.T) { checkMetrics(t, replica) })
	return all, alone
}

// scrape adds what a program shows.
func (all series) scrape(t *testing.T, s *exampletest.Service) string {
	t.Helper()
	get(t, "http://"+s.Admin+"/livez")
	text := get(t, "http://"+s.Metrics+"/metrics")
	for line := range strings.Lines(text) {
		found := sampleLine.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		if all[found[1]] == nil {
			all[found[1]] = map[string][]string{}
		}
		for _, pair := range labelPair.FindAllStringSubmatch(found[2], -1) {
			all[found[1]][pair[1]] = append(all[found[1]][pair[1]], pair[2])
		}
	}
	for name := range all { // Prometheus itself adds these
		all[name]["job"], all[name]["instance"] = []string{"tokenkit-authz"}, nil
	}
	return text
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", url, response.StatusCode, err)
	}
	return string(body)
}

// unknown returns what a query asks for that is not there: metrics, labels, and
// values that no series has.
func (all series) unknown(expr string) (names []string) {
	labels := map[string]bool{}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		of, found := all[s[1]]
		if !found {
			names = append(names, s[1])
			continue
		}
		for label := range of {
			labels[label] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			values, found := of[m[1]]
			if !found {
				names = append(names, s[1]+": "+m[1])
			}
			for value := range strings.SplitSeq(m[3], "|") {
				if !strings.HasPrefix(value, "$") && !slices.Contains(values, value) {
					names = append(names, s[1]+": "+m[0])
				}
			}
		}
	}
	for _, by := range grouping.FindAllStringSubmatch(expr, -1) {
		for label := range strings.SplitSeq(by[1], ",") {
			if label = strings.TrimSpace(label); !labels[label] {
				names = append(names, "by "+label)
			}
		}
	}
	if !selector.MatchString(expr) {
		names = append(names, "no metric at all")
	}
	return names
}

type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	readYAML(t, "alerts.yaml", &file)
	return file.Groups[0].Rules
}

type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct{ RefID, Expr string }
}

func panels(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Panels []panel }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file.Panels
}

func queries(t *testing.T) (all []query) {
	t.Helper()
	for _, a := range alerts(t) {
		all = append(all, query{"alert " + a.Alert, a.Expr})
	}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			all = append(all, query{"panel " + p.Title, target.Expr})
		}
	}
	return all
}

// Whatever the dashboard and the alerts ask for, the program shows.
func TestQueries(t *testing.T) {
	all, text := scraped(t)
	for _, q := range queries(t) {
		if names := all.unknown(q.expr); len(names) > 0 {
			t.Errorf("%s asks for what is not there: %q", q.where, names)
		}
	}
	for _, expr := range []string{`rate(tokenkit_authz_checks[5m])`, `tokenkit_authz_checks_total{result="denid"}`, `sum by (key_id) (tokenkit_authz_checks_total)`, `tokenkit_authz_limit_keys{reason="allowed"}`, `1`} {
		if len(all.unknown(expr)) == 0 {
			t.Errorf("%s is taken for a good query", expr)
		}
	}
	t.Run("promtool", func(t *testing.T) { checkMetrics(t, text) })
}

// Each alert says how bad it is and what to do, and is tested both ways.
func TestAlerts(t *testing.T) {
	var file struct {
		RuleFiles          []string `yaml:"rule_files"`
		EvaluationInterval string   `yaml:"evaluation_interval"`
		Tests              []struct {
			Name, Interval string
			InputSeries    []struct{ Series, Values string } `yaml:"input_series"`
			AlertRuleTest  []struct {
				EvalTime  string `yaml:"eval_time"`
				Alertname string
				ExpAlerts []struct {
					ExpLabels      map[string]string `yaml:"exp_labels"`
					ExpAnnotations map[string]string `yaml:"exp_annotations"`
				} `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, "alerts_test.yaml", &file)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				fires[a.Alertname] = true
			} else {
				rests[a.Alertname] = true
			}
		}
	}
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		if seen[a.Alert] {
			t.Errorf("two alerts are called %s", a.Alert)
		}
		seen[a.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: %+v", a.Alert, a)
		}
		if !fires[a.Alert] || !rests[a.Alert] {
			t.Errorf("%s is tested to fire: %v, and not to: %v", a.Alert, fires[a.Alert], rests[a.Alert])
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %d alerts were read", len(seen))
	}
}

// Panels have names of their own and lie beside each other.
func TestDashboard(t *testing.T) {
	taken := map[[2]int]string{}
	ids, titles := map[int]bool{}, map[string]bool{}
	all := panels(t)
	for _, p := range all {
		if ids[p.ID] || titles[p.Title] || p.Title == "" {
			t.Errorf("panel %d, %q is there twice or has no name", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("panel %q has %d queries", p.Title, len(p.Targets))
		}
		if p.GridPos.X < 0 || p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q lies at %+v", p.Title, p.GridPos)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("panel %q covers %q", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
	if len(all) < 20 {
		t.Errorf("only %d panels were read", len(all))
	}
}
