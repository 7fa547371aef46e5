package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
)

// Each setting that is said to hold without a restart exists, and holds.
func TestReloadableSettings(t *testing.T) {
	var all settings
	flags := all.defaults()
	for _, name := range reloadable {
		if flags.Lookup(name) == nil {
			t.Errorf("there is no setting %s", name)
		}
	}
	config, decisions := filepath.Join(t.TempDir(), "config.yaml"), filepath.Join(t.TempDir(), "decisions.log")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("drain: 9s\nblock_never: [192.0.2.7]\n")
	s := prepareServer(t, t.TempDir(), "--config", config, "--decision-log", decisions)
	s.cmd.Args = slices.DeleteFunc(s.cmd.Args, func(arg string) bool { return arg == "--drain" || arg == "0" })
	s.start(t)
	command(t, testPassword+"\n", "user", "add", "alice", "--data", s.data)
	key := createKeyOffline(t, s.data, "cron", "--owner", "alice", "--ip", "203.0.113.0/24")
	checks := newGRPCClient(t, s)
	deny := func(address string) {
		t.Helper()
		request := (&checkRequest{method: "GET", path: "/", header: "api-key", address: address}).message("nonsense")
		request.Attributes.ContextExtensions = nil
		for range 12 {
			if _, err := checks.Check(t.Context(), request); err != nil {
				t.Fatal(err)
			}
		}
	}
	explained := func() (e admin.Explanation) {
		t.Helper()
		out := command(t, "", "key", "explain", fmt.Sprint(key.ID), "--json", "--origin", "https://any.example", "--ip", "198.51.100.1", "--data", s.data)
		if err := json.Unmarshal([]byte(out), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	misdirected := func() bool {
		request, err := http.NewRequest(http.MethodGet, "http://"+s.admin+"/openapi.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "keys.example.io"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusMisdirectedRequest
	}
	if e := explained(); !e.Allowed || !misdirected() {
		t.Fatalf("%+v from the beginning, or an unknown host", e)
	}
	deny("192.0.2.7")
	allow := func() {
		t.Helper()
		request := (&checkRequest{method: "GET", path: "/", header: "api-key", address: "203.0.113.9"}).message(key.Key)
		request.Attributes.ContextExtensions = nil
		if answer, err := checks.Check(t.Context(), request); err != nil || answer.GetOkResponse() == nil {
			t.Fatalf("denied: %v, %v", answer, err)
		}
	}
	allow()

	write(`admin_hosts: [keys.example.io]
block_ignore: [rate_limited]
block_never: [192.0.2.8]
decision_log_denials_only: true
decision_log_one_in: 7
default_rate_limit: 60
drain: 0s
log_denials: 0
log_level: debug
session_idle: 30m
session_ttl: 1h
stop_deadline: 9s
strict: true
`)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.logs.String(), "settings reloaded"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the settings are not reloaded:\n%s", s.logs)
		}
	}
	for _, name := range reloadable {
		if !strings.Contains(s.logs.String(), "msg=\"setting changed\" setting="+settingName(name)+" ") {
			t.Errorf("the log does not say that %s changed:\n%s", settingName(name), s.logs)
		}
	}
	if e := explained(); e.Allowed || e.Reason != "address_not_allowed" {
		t.Errorf("the admin API explains as before: %+v", e)
	}
	if misdirected() {
		t.Error("a host that is allowed now is not")
	}
	if made := createKeyOffline(t, s.data, "later", "--owner", "alice"); made.RateLimitPerHour == nil || *made.RateLimitPerHour != 60 {
		t.Errorf("a key is made with the limit %v", made.RateLimitPerHour)
	}
	deny("192.0.2.7")
	deny("192.0.2.8")
	for range 40 {
		allow()
	}
	status, _, err := adminCall(s, http.MethodPost, "/api/users/auth/login/", "", []byte(`{"username":"alice","password":"`+testPassword+`"}`))
	if err != nil || status != http.StatusOK {
		t.Fatalf("login: %v, status %d", err, status)
	}
	var blocked []struct{ Address string }
	if err := json.Unmarshal([]byte(command(t, "", "block", "list", "--json", "--data", s.data)), &blocked); err != nil {
		t.Fatal(err)
	}
	if len(blocked) != 1 || !strings.HasPrefix(blocked[0].Address, "192.0.2.7") {
		t.Errorf("blocked are %+v, want only the address that is no longer exempt", blocked)
	}
	// It ends without the nine seconds that it was to drain at first.
	s.stop(t)
	if strings.Contains(s.logs.String(), "msg=stopping") {
		t.Error("it drains as it was told first")
	}
	ends := regexp.MustCompile(`msg=login .*expires_at=(\S+)`).FindStringSubmatch(s.logs.String())
	if ends == nil {
		t.Fatalf("the log has no login:\n%s", s.logs)
	}
	if end, err := time.Parse(time.RFC3339Nano, ends[1]); err != nil || time.Until(end) > time.Hour {
		t.Errorf("a session ends at %s, want an hour from now: %v", ends[1], err)
	}
	if n := len(regexp.MustCompile(`reason=malformed_key .*192\.0\.2\.8\b`).FindAllString(s.logs.String(), -1)); n != 12 {
		t.Errorf("%d of 12 denials were logged", n)
	}
	lines, err := os.ReadFile(decisions)
	if err != nil {
		t.Fatal(err)
	}
	if allowed, denied := strings.Count(string(lines), `"result":"allowed"`), strings.Count(string(lines), `"result":"denied"`); allowed != 1 || denied != 36 {
		t.Errorf("the decision log has %d allowed and %d denied Checks, want 1 and 36", allowed, denied)
	}
}
