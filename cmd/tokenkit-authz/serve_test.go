package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// ask runs check with a key on standard input.
func ask(t *testing.T, s *server, key string, args ...string) (e explanation, exit int) {
	t.Helper()
	cmd := exec.Command(binary(t), append([]string{"check", "--json", "--server", s.grpc}, args...)...)
	cmd.Stdin = strings.NewReader(key + "\n")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	if err := json.Unmarshal(out.Bytes(), &e); err != nil {
		t.Fatalf("check: %v\n%s%s", err, out.String(), errs.String())
	}
	return e, cmd.ProcessState.ExitCode()
}

// createKeyOffline makes a key by the command line, whoever holds the folder.
func createKeyOffline(t testing.TB, data string, args ...string) admin.CreatedKey {
	t.Helper()
	var created admin.CreatedKey
	out := command(t, "", append([]string{"key", "create", "--json", "--data", data}, args...)...)
	if err := json.Unmarshal([]byte(out), &created); err != nil {
		t.Fatal(err)
	}
	return created
}

func TestCheckCommand(t *testing.T) {
	s := startServer(t, t.TempDir())
	command(t, testPassword+"\n", "user", "add", "alice", "--data", s.data)
	key := createKeyOffline(t, s.data, "web", "--owner", "alice", "--origin", "https://app.example.io", "--ip", "203.0.113.0/24", "--rate-limit", "2")
	for _, c := range []struct {
		name, key string
		args      []string
		want      explanation
	}{
		{"allowed", key.Key, []string{"--origin", "https://app.example.io"}, explanation{true, "allowed", 200, "1", "web", `"hour";r=2;t=`}},
		{"origin", key.Key, []string{"--origin", "https://evil.example"}, explanation{false, "origin_not_allowed", 403, "1", "web", ""}},
		{"address", key.Key, []string{"--address", "198.51.100.1"}, explanation{false, "address_not_allowed", 403, "1", "web", ""}},
		{"its address", key.Key, []string{"--address", "203.0.113.9"}, explanation{true, "allowed", 200, "1", "web", `"hour";r=2;t=`}},
		{"malformed", "nonsense", nil, explanation{false, "malformed_key", 401, "", "", ""}},
		{"none", "", nil, explanation{false, "missing_key", 401, "", "", ""}},
	} {
		for range 12 { // explaining spends nothing and blocks nobody
			got, exit := ask(t, s, c.key, c.args...)
			if strings.HasPrefix(got.Limit, c.want.Limit) && c.want.Limit != "" {
				got.Limit = c.want.Limit
			}
			if got != c.want || (exit == 0) != c.want.Allowed {
				t.Fatalf("%s: got %+v and exit %d, want %+v", c.name, got, exit, c.want)
			}
			if c.name != "malformed" {
				break
			}
		}
	}
	if e, _ := ask(t, s, key.Key, "--address", "203.0.113.9"); !e.Allowed {
		t.Errorf("explaining cost something: %+v", e)
	}
}

// On SIGTERM the service says that it is not serving and goes on to answer;
// then it saves everything: the state of the limits and when keys were used.
func TestStop(t *testing.T) {
	s := startServer(t, t.TempDir(), "--drain", "3s")
	command(t, testPassword+"\n", "user", "add", "alice", "--data", s.data)
	key := createKeyOffline(t, s.data, "n", "--owner", "alice", "--rate-limit", "1000", "--strict")
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	health, checks := healthpb.NewHealthClient(conn), authv3.NewAuthorizationClient(conn)
	request := (&checkRequest{header: "api-key", address: "192.0.2.1", path: "/", method: "GET"}).message(key.Key)
	request.Attributes.ContextExtensions = nil
	call := func() {
		t.Helper()
		response, err := checks.Check(t.Context(), request)
		if err != nil || response.GetOkResponse() == nil {
			t.Fatalf("denied: %v, %v", response, err)
		}
	}
	for _, service := range []string{"", "envoy.service.auth.v3.Authorization"} {
		answer, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("health of %q: %v, %v", service, answer, err)
		}
	}
	watch, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: "envoy.service.auth.v3.Authorization"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	for range 17 {
		call()
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if answer, err := watch.Recv(); err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("health after SIGTERM: %v, %v", answer, err)
	}
	call() // while Envoy has not noticed yet
	s.wait(t)

	s = startServer(t, s.data)
	if e, _ := ask(t, s, key.Key); !strings.HasPrefix(e.Limit, `"hour";r=982;`) {
		t.Errorf("after 18 calls and a restart the limit is %s", e.Limit)
	}
	var keys []admin.Key
	if err := json.Unmarshal([]byte(command(t, "", "key", "list", "--json", "--data", s.data)), &keys); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 1 || keys[0].LastUsedAt == nil || time.Since(*keys[0].LastUsedAt) > time.Hour {
		t.Errorf("the last use was not saved: %+v", keys)
	}
}

// A second service on the same folder is refused with a message that says so.
func TestTwoServices(t *testing.T) {
	s := startServer(t, t.TempDir())
	out, err := exec.Command(binary(t), "serve", "--data", s.data, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("got %v: %s", err, out)
	}
}

// The demo's own table comes out right, with a real Envoy and without one.
func TestDemo(t *testing.T) {
	t.Run("stand-in", func(t *testing.T) {
		out := command(t, "", "demo", "--once", "--stand-in")
		if !strings.Contains(out, "NOT Envoy") || strings.Count(out, " yes\n") != 9 {
			t.Errorf("got %s", out)
		}
	})
	t.Run("envoy", func(t *testing.T) {
		program := envoytest.Require(t)
		out := command(t, "", "demo", "--once", "--envoy", program)
		if strings.Contains(out, "NOT Envoy") || strings.Count(out, " yes\n") != 9 {
			t.Errorf("got %s", out)
		}
	})
}

// A service that is told to stop while it starts has stopped cleanly: no key
// pays for it.
func TestStopWhileStarting(t *testing.T) {
	data := t.TempDir()
	command(t, testPassword+"\n", "user", "add", "alice", "--data", data)
	key := createKeyOffline(t, data, "n", "--owner", "alice", "--rate-limit", "1", "--strict")
	for i := range 12 {
		cmd := exec.Command(binary(t), "serve", "--data", data, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain", "0")
		var logs bytes.Buffer
		cmd.Stderr = &logs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment differs each time, from before anything is open to after.
		time.Sleep(time.Duration(5+10*i) * time.Millisecond)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // by the signal itself where that came before everything
		if strings.Contains(logs.String(), "saving the") {
			t.Errorf("stopping did not save: %s", logs.String())
		}
	}
	s := startServer(t, data)
	if e, _ := ask(t, s, key.Key); !e.Allowed {
		t.Errorf("a key that was never used is %s", e.Reason)
	}
	// A backup can be verified while the service runs.
	backup := filepath.Join(t.TempDir(), "copy.db")
	command(t, "", "store", "backup", backup, "--data", data)
	command(t, "", "store", "verify", backup, "--data", data)
}

// A hang-up applies what can change, says what cannot, and keeps the settings
// where the new ones make no sense.
func TestServeReloads(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("strict: false\n")
	s := startServer(t, t.TempDir(), "--config", config)
	command(t, testPassword+"\n", "user", "add", "alice", "--data", s.data)
	key := createKeyOffline(t, s.data, "cron", "--owner", "alice", "--ip", "203.0.113.0/24")
	skips := func() bool {
		e, _ := ask(t, s, key.Key, "--origin", "https://any.example", "--address", "198.51.100.1")
		return e.Allowed
	}
	hangUp := func(says string) {
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.logs.String(), says); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the log does not say %q:\n%s", says, s.logs)
			}
		}
	}
	if !skips() {
		t.Fatal("strict from the beginning")
	}
	write("strict: maybe\n")
	hangUp("the settings were not reloaded; the old ones hold")
	write("limit_status: 404\n")
	hangUp("expected 403 or 429")
	if !skips() {
		t.Error("settings that make no sense are applied")
	}
	write("strict: true\nlimit_status: 429\nlog_level: debug\n")
	hangUp("settings reloaded\" changed=3")
	for _, want := range []string{
		"msg=\"setting changed\" setting=strict from=false to=true", "msg=\"setting changed\" setting=log_level from=info to=debug",
		"holds after a restart only\" setting=limit_status from=403 to=429",
	} {
		if !strings.Contains(s.logs.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, s.logs)
		}
	}
	if strings.Contains(s.logs.String(), "setting=grpc_listen") {
		t.Error("what the command line says is lost")
	}
	if skips() {
		t.Error("the new setting does not hold")
	}
}
