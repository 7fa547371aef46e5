package telemetry

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
	"github.com/tokenkithq/authz/usage"
)

func every() Sources {
	return Sources{
		Version:  "v1",
		Checks:   NewChecks(),
		Requests: servedOnce(),
		Reads:    NewReads(nil),
		Cache: func() store.CacheStats {
			return store.CacheStats{Hits: 1, AbsentHits: 2, Misses: 3, Shared: 4, Evictions: 5, Keys: 6, Absent: 7}
		},
		Limiter: func() limit.Stats {
			return limit.Stats{Keys: 1, Capacity: 2, Denied: 3, Full: 4, Waits: 15, WaitErrors: 6, Charged: 7, Saves: 8, SaveErrors: 9, LastSave: time.UnixMilli(10_500), Unclean: 11}
		},
		Shared: func() lease.Stats {
			return lease.Stats{Keys: 1, Capacity: 2, Replicas: 3, Exchanges: 10, Batches: 5, Errors: 6, Leased: 7, Returned: 8, Charged: 9, Denied: 10, Full: 11, Waits: 25, WaitErrors: 12, Opened: 14, Failing: true}
		},
		Blocks: func() block.Stats {
			return block.Stats{Addresses: 1, Blocked: 2, Capacity: 3, Blocks: 4, Evicted: 5, Refused: 6, Exempted: 7, Unknown: 8, Saves: 9, SaveErrors: 10}
		},
		SharedBlocks: func() shared.Stats {
			return shared.Stats{Told: 1, Alone: 2, Late: 3, Overflows: 4, Waiting: 5, Changes: 6, Unsettled: 7, Errors: 8, Failing: true}
		},
		Replica: func() etcd.Stats {
			return etcd.Stats{Revision: 1, Keys: 2, Replicas: 3, Damaged: 4, Fresh: 5500 * time.Millisecond, Conflicts: 6, Doubtful: 7, Restarts: 8, Relists: 9, Registrations: 10, Reports: 11}
		},
		Usage:    func() usage.Stats { return usage.Stats{Waiting: 1, Unfolded: 2, Dropped: 3, Failures: 4} },
		LastUsed: func() store.LastUsedStats { return store.LastUsedStats{Waiting: 1, Dropped: 2} },
		Connections: func() ConnectionStats {
			return ConnectionStats{Refused: map[string]uint64{"grpc": 1, "admin": 2}, Slowed: map[string]uint64{"grpc": 3, "admin": 4}, Unanswered: 5}
		},
		Decisions: func() DecisionLogStats { return DecisionLogStats{Written: 1, Failed: 2, Dropped: 3, Waiting: 4} },
		Traces:    func() TracesStats { return TracesStats{Sent: 1, Failed: 2} },
	}
}

func servedOnce() *Requests {
	r := NewRequests()
	r.Served("GET /api/keys", 200, time.Millisecond)
	return r
}

func scrape(t *testing.T, s Sources, method, path string) (*http.Response, string) {
	t.Helper()
	registry, err := NewRegistry(s)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	Handler(registry, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(method, path, nil))
	response := w.Result()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// Each number comes out under its own name.
func TestMetricsOfSources(t *testing.T) {
	_, body := scrape(t, every(), "GET", "/metrics")
	lines := strings.Split(body, "\n")
	for _, want := range []string{
		`build_info{goversion="` + runtime.Version() + `",version="v1"} 1`,
		`cache_searches_total{outcome="hit"} 1`,
		`cache_searches_total{outcome="absent_hit"} 2`,
		`cache_searches_total{outcome="miss"} 3`,
		`cache_searches_total{outcome="shared"} 4`,
		`cache_evictions_total 5`,
		`cache_entries{kind="key"} 6`,
		`cache_entries{kind="absent"} 7`,
		`limit_keys 1`,
		`limit_capacity 2`,
		`limit_denied_total{cause="spent"} 3`,
		`limit_denied_total{cause="full"} 4`,
		`limit_waits_total{result="saved"} 9`,
		`shared_limit_keys 1`,
		`shared_limit_capacity 2`,
		`shared_limit_replicas 3`,
		`shared_limit_failing 1`,
		`shared_limit_exchanges_total{result="answered"} 4`,
		`shared_limit_exchanges_total{result="failed"} 6`,
		`shared_limit_batches_total 5`,
		`shared_limit_tokens_total{what="leased"} 7`,
		`shared_limit_tokens_total{what="returned"} 8`,
		`shared_limit_tokens_total{what="charged"} 9`,
		`shared_limit_denied_total{cause="spent"} 10`,
		`shared_limit_denied_total{cause="full"} 11`,
		`shared_limit_waits_total{result="answered"} 13`,
		`shared_limit_waits_total{result="failed"} 12`,
		`shared_limit_opened_total 14`,
		`limit_waits_total{result="failed"} 6`,
		`limit_charged_calls_total 7`,
		`limit_saves_total{result="saved"} 8`,
		`limit_saves_total{result="failed"} 9`,
		`limit_last_save_timestamp_seconds 10.5`,
		`limit_unclean_stops 11`,
		`block_addresses 1`,
		`blocked_addresses 2`,
		`block_capacity 3`,
		`blocks_total 4`,
		`block_evictions_total 5`,
		`block_uncounted_total{cause="full"} 6`,
		`block_uncounted_total{cause="exempt"} 7`,
		`block_uncounted_total{cause="unknown"} 8`,
		`block_saves_total{result="saved"} 9`,
		`block_saves_total{result="failed"} 10`,
		`block_last_save_timestamp_seconds 0`,
		`shared_block_failures_total{counted="together"} 1`,
		`shared_block_failures_total{counted="alone"} 2`,
		`shared_block_unanswered_total{cause="late"} 3`,
		`shared_block_unanswered_total{cause="full"} 4`,
		`shared_block_waiting 5`,
		`shared_block_changes_total 6`,
		`shared_block_unsettled_total 7`,
		`shared_block_errors_total 8`,
		`shared_block_failing 1`,
		`store_replica_revision 1`,
		`store_replica_keys 2`,
		`store_replica_replicas 3`,
		`store_replica_damaged_records 4`,
		`store_replica_fresh_seconds 5.5`,
		`store_replica_retries_total{cause="conflict"} 6`,
		`store_replica_retries_total{cause="unanswered"} 7`,
		`store_replica_interruptions_total{what="resumed"} 8`,
		`store_replica_interruptions_total{what="relisted"} 9`,
		`store_replica_interruptions_total{what="registered"} 10`,
		`store_replica_reports_total 11`,
		`usage_waiting 1`,
		`usage_unfolded 2`,
		`usage_dropped_total 3`,
		`usage_write_failures_total 4`,
		`last_used_waiting 1`,
		`last_used_dropped_total 2`,
		`connections_refused_total{listener="grpc"} 1`,
		`connections_refused_total{listener="admin"} 2`,
		`connections_slowed_total{listener="grpc"} 3`,
		`connections_slowed_total{listener="admin"} 4`,
		`connections_unanswered_total 5`,
		`decision_log_lines_total{result="written"} 1`,
		`decision_log_lines_total{result="failed"} 2`,
		`decision_log_lines_total{result="dropped"} 3`,
		`decision_log_waiting_bytes 4`,
		`trace_spans_total{result="sent"} 1`,
		`trace_spans_total{result="failed"} 2`,
	} {
		if !slices.Contains(lines, namespace+want) {
			t.Errorf("not there: %s", want)
		}
	}
	for _, prefix := range []string{"go_goroutines ", "process_open_fds "} {
		if !strings.Contains(body, "\n"+prefix) {
			t.Errorf("no %s", prefix)
		}
	}
}

// What Describe says is what there is, of the kind and with the labels said.
func TestDescribe(t *testing.T) {
	registry, err := NewRegistry(every())
	if err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []Metric
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), namespace) {
			continue
		}
		m := Metric{Name: family.GetName(), Kind: strings.ToLower(family.GetType().String()), Help: family.GetHelp()}
		for _, label := range family.GetMetric()[0].GetLabel() {
			m.Labels = append(m.Labels, label.GetName())
		}
		got = append(got, m)
	}
	want := Describe()
	if len(got) != len(want) {
		t.Errorf("%d metrics, and %d described", len(got), len(want))
	}
	for i, m := range got[:min(len(got), len(want))] {
		if described := want[i]; described.Name != m.Name || described.Kind != m.Kind || described.Help != m.Help || !slices.Equal(slices.Sorted(slices.Values(described.Labels)), m.Labels) {
			t.Errorf("described as %+v, but it is %+v", described, m)
		}
	}
}

// Names and helps follow Prometheus' conventions.
func TestMetricConventions(t *testing.T) {
	registry, err := NewRegistry(every())
	if err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, namespace) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// Sources that are not there are not reported.
func TestMetricsOfNothing(t *testing.T) {
	_, body := scrape(t, Sources{}, "GET", "/metrics")
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, namespace) && !strings.HasPrefix(line, namespace+"build_info") {
			t.Errorf("unexpected: %s", line)
		}
	}
}

func TestHandler(t *testing.T) {
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/metrics", 200}, {"HEAD", "/metrics", 200}, {"POST", "/metrics", 405}, {"GET", "/", 404}, {"GET", "/metrics/", 404},
	} {
		if response, _ := scrape(t, Sources{}, c.method, c.path); response.StatusCode != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, response.StatusCode, c.want)
		}
	}
}
