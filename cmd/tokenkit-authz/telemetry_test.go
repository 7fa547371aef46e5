package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// grpcClient makes Checks as Envoy does.
type grpcClient struct{ authv3.AuthorizationClient }

func newGRPCClient(t testing.TB, s *server) grpcClient {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpcClient{authv3.NewAuthorizationClient(conn)}
}

// check asks about a request from an address with a key, and returns whether
// it may pass.
func (c grpcClient) check(t testing.TB, address, key string) bool {
	t.Helper()
	request := (&checkRequest{header: "api-key", from: "x-client-ip", address: address, method: "GET", path: "/things?q=" + key}).message(key)
	request.Attributes.ContextExtensions = nil
	response, err := c.Check(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return response.GetStatus().GetCode() == 0
}

func scrape(t testing.TB, s *server) string {
	t.Helper()
	response, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", response.StatusCode, err)
	}
	return string(body)
}

// What the service did can be scraped, and says nothing of whose key it was.
func TestMetrics(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--metrics-listen", "127.0.0.1:0")
	command(t, testPassword+"\n", "user", "add", "alice", "--data", s.data)
	key := createKeyOffline(t, s.data, "named-web", "--owner", "alice", "--rate-limit", "3")
	checks := newGRPCClient(t, s)
	for range 5 {
		checks.check(t, "192.0.2.1", key.Key)
	}
	for range 11 {
		checks.check(t, "192.0.2.2", "nonsense")
	}
	if checks.check(t, "192.0.2.3", "") {
		t.Error("a request without a key passed")
	}
	if response, err := http.Get("http://" + s.admin + "/livez"); err != nil || response.Body.Close() != nil {
		t.Fatal(err)
	}
	body := scrape(t, s)
	for _, want := range []string{
		`checks_total{reason="allowed",result="allowed"} 3`,
		`checks_total{reason="rate_limited",result="denied"} 2`,
		`checks_total{reason="malformed_key",result="denied"} 10`,
		`checks_total{reason="address_blocked",result="denied"} 1`,
		`checks_total{reason="missing_key",result="denied"} 1`,
		`check_failures_counted_total 12`,
		`check_duration_seconds_count 17`,
		`cache_searches_total{outcome="hit"} 4`,
		`limit_denied_total{cause="spent"} 2`,
		`store_read_duration_seconds_count 1`,
		`store_read_failures_total 0`,
		`limit_keys 1`,
		`blocked_addresses 1`,
		`blocks_total 1`,
		`usage_dropped_total 0`,
		`admin_requests_total{route="GET /livez",status="200"} 1`,
	} {
		if !strings.Contains(body, "\ntokenkit_authz_"+want+"\n") {
			t.Errorf("not there: %s", want)
		}
	}
	for _, text := range []string{key.Key, "named-web", "alice", "192.0.2."} {
		if strings.Contains(body, text) {
			t.Errorf("the metrics hold %q", text)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

// A socket that systemd has opened for metrics has them served.
func TestMetricsThroughSystemd(t *testing.T) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // it is the server's by then
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // likewise
	s := prepareServer(t, filepath.Join(t.TempDir(), "data"))
	s.cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=metrics exec "$@"`, "sh", s.cmd.Path}, s.cmd.Args[1:]...)
	s.cmd.Path = "/bin/sh"
	s.cmd.ExtraFiles = []*os.File{file}
	s.start(t)
	if s.metrics != listener.Addr().String() {
		t.Fatalf("metrics are served on %s, want %s", s.metrics, listener.Addr())
	}
	if body := scrape(t, s); !strings.Contains(body, "tokenkit_authz_build_info") {
		t.Errorf("got %s", body)
	}
}

func TestMetricsAreOff(t *testing.T) {
	if s := startServer(t, filepath.Join(t.TempDir(), "data")); s.metrics != "" {
		t.Errorf("metrics are served on %s", s.metrics)
	}
}

// The decision log has a line for each Check, and no key, in a file or on
// standard output.
func TestDecisionLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "decisions.log")
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--decision-log", path, "--log-denials", "2")
	command(t, testPassword+"\n", "user", "add", "alice", "--data", s.data)
	key := createKeyOffline(t, s.data, "web", "--owner", "alice")
	checks := newGRPCClient(t, s)
	checks.check(t, "192.0.2.1", key.Key)
	for range 5 {
		checks.check(t, "192.0.2.2", "nonsense")
	}
	if got, _ := ask(t, s, key.Key); !got.Allowed { // explaining is not logged
		t.Errorf("explained as %+v", got)
	}
	s.stop(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		var read struct {
			Result, Reason, Address, Method, Path string
			KeyID                                 int64  `json:"key_id"`
			KeyName                               string `json:"key_name"`
		}
		if err := json.Unmarshal([]byte(line), &read); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, fmt.Sprint(read))
	}
	denied := "{denied malformed_key 192.0.2.2 GET /things 0 }"
	if want := []string{"{allowed allowed 192.0.2.1 GET /things 1 web}", denied, denied, denied, denied, denied}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for what, log := range map[string]string{"the decision log": string(text), "the log": s.logs.String()} {
		if strings.Contains(log, key.Key) {
			t.Errorf("the key is in %s", what)
		}
	}
	if n := strings.Count(s.logs.String(), "check denied"); n > 4 { // two in each of two seconds at most
		t.Errorf("%d denials are logged", n)
	}
}

func TestDecisionLogOnStandardOutput(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--decision-log", "-")
	newGRPCClient(t, s).check(t, "192.0.2.1", "")
	s.stop(t)
	if text := s.out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `"reason":"missing_key"`) {
		t.Errorf("standard output: %q", text)
	}
}
