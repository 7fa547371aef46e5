package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

const (
	loginPath  = "/api/users/auth/login/"
	logoutPath = "/api/users/auth/logout/"
	createPath = "/api/users/auth/create-api-key/"
	listPath   = "/api/users/auth/api-keys/"
	deletePath = "/api/users/auth/api-keys/delete/"
)

// The bodies that the public documentation shows, as they stand there.
func TestDocumentedBodies(t *testing.T) {
	h := newHarness(t, nil)
	if _, err := h.operator.AddUser(t.Context(), admin.NewUser{Name: "you@example.com", Password: "documented password"}); err != nil {
		t.Fatal(err)
	}
	login := strings.Replace(`{"username": "you@example.com", "password": "..."}`, "...", "documented password", 1)
	var session struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	h.do(request{path: loginPath, body: login}).want(200, "").decode(&session)
	if want := h.clock.now().Add(12 * time.Hour); !session.Expires.Equal(want) {
		t.Errorf("the session ends at %v, want %v", session.Expires, want)
	}
	for name, c := range map[string]struct {
		body, want string
		warnings   int
	}{
		"frontend": {`{
 "name": "my-app-prod",
 "allowed_origins": ["https://app.example.io", "https://www.example.io"],
 "rate_limit_per_hour": 5000
 }`, `{"allowed_ips":[],"allowed_origins":["https://app.example.io","https://www.example.io"],"name":"my-app-prod","rate_limit_per_hour":5000,"strict":false}`, 0},
		"backend": {`{
 "name": "indexer-cron",
 "allowed_ips": ["203.0.113.10"],
 "rate_limit_per_hour": 10000
 }`, `{"allowed_ips":["203.0.113.10"],"allowed_origins":[],"name":"indexer-cron","rate_limit_per_hour":10000,"strict":false}`, 1},
		"legacy domain": {`{"name": "...", "domain": "example.io"}`,
			`{"allowed_ips":[],"allowed_origins":["example.io"],"name":"...","rate_limit_per_hour":null,"strict":false}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var created map[string]any
			answer := h.do(request{path: createPath, body: c.body, token: session.Token, header: http.Header{"Api-Key": {"YOUR_API_KEY"}}})
			answer.want(201, "").decode(&created)
			if cache := answer.header.Get("Cache-Control"); cache != "no-store" {
				t.Errorf("the answer with the key says Cache-Control: %q", cache)
			}
			secret, err := apikey.ParseSecret(fmt.Sprint(created["key"]))
			if err != nil {
				t.Fatal(err)
			}
			stored, err := h.store.FindKey(t.Context(), secret.Hash())
			if err != nil || int64(stored.ID) != int64(created["id"].(float64)) || stored.OwnerName != "you@example.com" || stored.Hint != created["hint"] {
				t.Errorf("stored %+v, %v", stored, err)
			}
			if n := len(created["warnings"].([]any)); n != c.warnings {
				t.Errorf("%d warnings, want %d: %v", n, c.warnings, created["warnings"])
			}
			if got := pick(created, "allowed_ips", "allowed_origins", "name", "rate_limit_per_hour", "strict"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	var keys []map[string]any
	listed := h.do(request{method: "GET", path: listPath, token: session.Token}).want(200, "")
	listed.decode(&keys)
	if len(keys) != 3 || keys[0]["last_used_at"] != nil {
		t.Fatalf("listed %s", listed.body)
	}
	if regexp.MustCompile(apikey.SecretPattern).MatchString(listed.body) || strings.Contains(listed.body, `"key"`) {
		t.Error("the list shows a key")
	}
	if !regexp.MustCompile(`^\[\{"id":\d+,"name":"[^"]+","created_at":"[^"]+","last_used_at":null,`).MatchString(listed.body) {
		t.Errorf("the documented fields do not come first: %s", listed.body)
	}
	id := int64(keys[0]["id"].(float64))
	h.do(request{path: deletePath, body: strings.Replace(`{"key_id": 123}`, "123", fmt.Sprint(id), 1), token: session.Token}).want(200, "")
	h.do(request{path: deletePath, body: fmt.Sprintf(`{"key_id": %d}`, id), token: session.Token}).want(404, "not_found")
}

func pick(object map[string]any, names ...string) string {
	picked := map[string]any{}
	for _, name := range names {
		picked[name] = object[name]
	}
	text, err := json.Marshal(picked)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestBothSlashForms(t *testing.T) {
	h := newHarness(t, nil)
	for _, trim := range []bool{false, true} {
		form := func(path string) string {
			if trim {
				return strings.TrimSuffix(path, "/")
			}
			return path
		}
		var session struct{ Token string }
		h.do(request{path: form(loginPath), body: `{"username":"ADA","password":"` + adaPassword + `"}`}).want(200, "").decode(&session)
		var created struct{ ID int64 }
		h.do(request{path: form(createPath), body: `{"name":"x"}`, token: session.Token}).want(201, "").decode(&created)
		h.do(request{method: "GET", path: form(listPath), token: session.Token}).want(200, "")
		h.do(request{path: form(deletePath), body: fmt.Sprintf(`{"key_id":%d}`, created.ID), token: session.Token}).want(200, "")
		h.do(request{path: form(logoutPath), token: session.Token}).want(204, "")
		h.do(request{method: "GET", path: form(listPath), token: session.Token}).want(401, "unauthenticated")
	}
	h.do(request{method: "GET", path: listPath + "1/x"}).want(404, "not_found")
}

// A user sees and deletes their own keys only, whatever ids they try.
func TestKeysBelongToTheirOwner(t *testing.T) {
	h := newHarness(t, nil)
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	var created admin.CreatedKey
	h.do(request{path: createPath, body: `{"name":"of ada"}`, token: ada}).want(201, "").decode(&created)
	if list := h.do(request{method: "GET", path: listPath, token: bob}).want(200, ""); strings.TrimSpace(list.body) != "[]" {
		t.Errorf("bob sees %s", list.body)
	}
	taken := h.do(request{path: deletePath, body: fmt.Sprintf(`{"key_id":%d}`, created.ID), token: bob}).want(404, "not_found")
	absent := h.do(request{path: deletePath, body: `{"key_id":9999}`, token: bob}).want(404, "not_found")
	if taken.body != absent.body {
		t.Errorf("somebody else's key and none are told apart:\n%s%s", taken.body, absent.body)
	}
	secret, err := apikey.ParseSecret(created.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.FindKey(t.Context(), secret.Hash()); err != nil {
		t.Errorf("ada's key after bob tried: %v", err)
	}
}

func TestLastUsedIsListed(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	h.do(request{path: createPath, body: `{"name":"x"}`, token: token}).want(201, "")
	used := time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
	if err := h.store.TouchKeys(t.Context(), map[apikey.KeyID]time.Time{1: used}); err != nil {
		t.Fatal(err)
	}
	if list := h.do(request{method: "GET", path: listPath, token: token}); !strings.Contains(list.body, `"last_used_at":"2026-03-01T13:00:00Z"`) {
		t.Errorf("got %s", list.body)
	}
}

func TestWarnings(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	for _, c := range []struct{ name, body, want string }{
		{"open", `{"name":"x"}`, "open_key"},
		{"open and strict", `{"name":"x","strict":true}`, "open_key"},
		{"addresses", `{"name":"x","allowed_ips":["203.0.113.0/24"]}`, "origin_skips_addresses"},
		{"addresses and strict", `{"name":"x","allowed_ips":["203.0.113.0/24"],"strict":true}`, ""},
		{"origins", `{"name":"x","allowed_origins":["https://a.example"]}`, ""},
		{"both", `{"name":"x","allowed_origins":["https://a.example"],"allowed_ips":["203.0.113.1"]}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var created admin.CreatedKey
			h.do(request{path: createPath, body: c.body, token: token}).want(201, "").decode(&created)
			var codes []string
			for _, warning := range created.Warnings {
				codes = append(codes, warning.Code)
				if warning.Message == "" {
					t.Error("a warning without words")
				}
			}
			if got := strings.Join(codes, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDefaultRateLimit(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.DefaultRateLimit = 250 })
	token := h.login("ada", adaPassword)
	for body, want := range map[string]string{
		`{"name":"x"}`: "250", `{"name":"x","rate_limit_per_hour":null}`: "250", `{"name":"x","rate_limit_per_hour":1000000000}`: "1000000000",
	} {
		if created := h.do(request{path: createPath, body: body, token: token}).want(201, ""); !strings.Contains(created.body, `"rate_limit_per_hour":`+want+",") {
			t.Errorf("%s: got %s", body, created.body)
		}
	}
}

// A path with a fixed last part answers only to its own methods, though that
// part could be the id of a key.
func TestMethods(t *testing.T) {
	h := newHarness(t, nil)
	for _, c := range []struct{ method, path, allow string }{
		{"GET", deletePath, "POST"}, {"PATCH", deletePath, "POST"}, {"PUT", deletePath, "POST"}, {"POST", listPath, "GET, HEAD"},
		{"DELETE", onKey(1, ""), "GET, HEAD, PATCH"}, {"POST", onKey(1, ""), "GET, HEAD, PATCH"}, {"GET", onKey(1, "rotate/"), "POST"},
		{"POST", "/livez", "GET, HEAD"},
	} {
		if got := h.do(request{method: c.method, path: c.path}).want(405, "method_not_allowed"); got.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow: %s", c.method, c.path, got.header.Get("Allow"))
		}
	}
}
