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
	h.do(request{method: "GET", path: listPath + "x"}).want(404, "not_found")
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

// Every refusal names the field and what was expected.
func TestRefusedBodies(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	hundredOne := `"` + strings.Repeat(`a.example","`, 100) + `b.example"`
	for _, c := range []struct {
		name, path, body string
		status           int
		code, location   string
		message          string // must be part of it
	}{
		{"no name", createPath, `{}`, 422, "invalid_request", "body.name", "expected this field"},
		{"null name", createPath, `{"name":null}`, 422, "invalid_request", "body.name", "expected a string, got null"},
		{"number for name", createPath, `{"name":1}`, 422, "invalid_request", "body.name", "expected a string"},
		{"empty name", createPath, `{"name":""}`, 422, "invalid_request", "body.name", "at least 1"},
		{"blank name", createPath, `{"name":" "}`, 422, "invalid_request", "body.name", "visible"},
		{"name with a line break", createPath, `{"name":"a\nb"}`, 422, "invalid_request", "body.name", "printable"},
		{"long name", createPath, `{"name":"` + strings.Repeat("é", 101) + `"}`, 422, "invalid_request", "body.name", "at most 100"},
		{"unknown field", createPath, `{"name":"x","allowed_ip":[]}`, 422, "invalid_request", "body.allowed_ip", "no such field"},
		{"field in capitals", createPath, `{"name":"x","Strict":true}`, 422, "invalid_request", "body.Strict", "no such field"},
		{"field twice", createPath, `{"name":"x","strict":true,"strict":false}`, 400, "invalid_json", "body.strict", "once"},
		{"field twice, escaped", createPath, `{"name":"x","str\u0069ct":true,"strict":false}`, 400, "invalid_json", "body.strict", "once"},
		{"field twice, deep", createPath, `{"name":"x","a":[{"b":1,"b":1}]}`, 400, "invalid_json", "body.a[0].b", "once"},
		{"null origins", createPath, `{"name":"x","allowed_origins":null}`, 422, "invalid_request", "body.allowed_origins", "a list, got null"},
		{"string for origins", createPath, `{"name":"x","allowed_origins":"https://a.example"}`, 422, "invalid_request", "body.allowed_origins", "a list"},
		{"null origin", createPath, `{"name":"x","allowed_origins":["null",null]}`, 422, "invalid_request", "body.allowed_origins[1]", "a string"},
		{"bad origin", createPath, `{"name":"x","allowed_origins":["https://a.example","https://a.example/path"]}`, 422, "invalid_request", "body.allowed_origins[1]", "expected"},
		{"many origins", createPath, `{"name":"x","allowed_origins":[` + hundredOne + `]}`, 422, "invalid_request", "body.allowed_origins", "at most 100 entries, got 101"},
		{"number for an address", createPath, `{"name":"x","allowed_ips":[1]}`, 422, "invalid_request", "body.allowed_ips[0]", "a string"},
		{"bad address", createPath, `{"name":"x","allowed_ips":["203.0.113.1","203.0.113.1","203.0.113.1/24"]}`, 422, "invalid_request", "body.allowed_ips[2]", "host bits"},
		{"zero limit", createPath, `{"name":"x","rate_limit_per_hour":0}`, 422, "invalid_request", "body.rate_limit_per_hour", "1 to 1000000000 or null"},
		{"negative limit", createPath, `{"name":"x","rate_limit_per_hour":-1}`, 422, "invalid_request", "body.rate_limit_per_hour", "1 to 1000000000"},
		{"large limit", createPath, `{"name":"x","rate_limit_per_hour":1000000001}`, 422, "invalid_request", "body.rate_limit_per_hour", "1 to 1000000000"},
		{"overflowing limit", createPath, `{"name":"x","rate_limit_per_hour":18446744073709551617}`, 422, "invalid_request", "body.rate_limit_per_hour", "an integer"},
		{"fraction", createPath, `{"name":"x","rate_limit_per_hour":1.5}`, 422, "invalid_request", "body.rate_limit_per_hour", "an integer"},
		{"exponent", createPath, `{"name":"x","rate_limit_per_hour":1e3}`, 422, "invalid_request", "body.rate_limit_per_hour", "an integer"},
		{"string for limit", createPath, `{"name":"x","rate_limit_per_hour":"5"}`, 422, "invalid_request", "body.rate_limit_per_hour", "an integer"},
		{"string for strict", createPath, `{"name":"x","strict":"true"}`, 422, "invalid_request", "body.strict", "true or false"},
		{"null strict", createPath, `{"name":"x","strict":null}`, 422, "invalid_request", "body.strict", "true or false"},
		{"domain and origins", createPath, `{"name":"x","domain":"a.example","allowed_origins":[]}`, 422, "invalid_request", "body.domain", "got both"},
		{"empty domain", createPath, `{"name":"x","domain":""}`, 422, "invalid_request", "body.domain", "expected"},
		{"bad domain", createPath, `{"name":"x","domain":"a/b"}`, 422, "invalid_request", "body.domain", "expected"},
		{"null domain", createPath, `{"name":"x","domain":null}`, 422, "invalid_request", "body.domain", "a string"},
		{"list", createPath, `[]`, 422, "invalid_request", "body", "an object, got a list"},
		{"null", createPath, `null`, 422, "invalid_request", "body", "an object, got null"},
		{"blank", createPath, ` `, 400, "invalid_json", "body", ""},
		{"cut", createPath, `{"name":"x"`, 400, "invalid_json", "body", ""},
		{"trailing object", createPath, `{"name":"x"}{}`, 400, "invalid_json", "body", "nothing after"},
		{"trailing brace", createPath, `{"name":"x"}}`, 400, "invalid_json", "body", ""},
		{"trailing comma", createPath, `{"name":"x",}`, 400, "invalid_json", "body", ""},
		{"comment", createPath, `{"name":"x"/**/}`, 400, "invalid_json", "body", ""},
		{"bad UTF-8", createPath, "{\"name\":\"\xff\"}", 400, "invalid_json", "body", "UTF-8"},
		{"lone surrogate", createPath, `{"name":"\ud800"}`, 400, "invalid_json", "body.name", ""},
		{"byte order mark", createPath, "\ufeff{}", 400, "invalid_json", "body", ""},
		{"deep", createPath, strings.Repeat(`{"a":`, 9) + `1` + strings.Repeat(`}`, 9), 400, "invalid_json", "body.a.a.a.a.a.a.a.a", "levels"},
		{"no key_id", deletePath, `{}`, 422, "invalid_request", "body.key_id", "expected this field"},
		{"string key_id", deletePath, `{"key_id":"123"}`, 422, "invalid_request", "body.key_id", "an integer"},
		{"null key_id", deletePath, `{"key_id":null}`, 422, "invalid_request", "body.key_id", "an integer"},
		{"zero key_id", deletePath, `{"key_id":0}`, 422, "invalid_request", "body.key_id", "an integer from 1"},
		{"large key_id", deletePath, `{"key_id":9223372036854775808}`, 422, "invalid_request", "body.key_id", "an integer"},
		{"no username", loginPath, `{"password":"x"}`, 422, "invalid_request", "body.username", "expected this field"},
		{"no password", loginPath, `{"username":"ada"}`, 422, "invalid_request", "body.password", "expected this field"},
		{"list for password", loginPath, `{"username":"ada","password":["x"]}`, 422, "invalid_request", "body.password", "a string"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			got := h.do(request{path: c.path, body: c.body, token: token}).want(c.status, c.code).problem()
			if len(got.Errors) == 0 || !strings.HasPrefix(got.Errors[0].Location, c.location) || !strings.Contains(got.Errors[0].Message, c.message) {
				t.Errorf("got %+v, want %s: …%s…", got.Errors, c.location, c.message)
			}
		})
	}
	h.t = t
	if list := h.do(request{method: "GET", path: listPath, token: token}); strings.TrimSpace(list.body) != "[]" {
		t.Errorf("a refused body made a key: %s", list.body)
	}
}

// A refusal lists all faults, in the order in which they stand.
func TestAllFaultsAreNamed(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	got := h.do(request{path: createPath, token: token, body: `{"name":"","strict":1,"allowed_ips":[1,"203.0.113.1",2]}`}).want(422, "invalid_request").problem()
	var places []string
	for _, fault := range got.Errors {
		places = append(places, fault.Location)
	}
	if text := strings.Join(places, " "); text != "body.name body.strict body.allowed_ips[0] body.allowed_ips[2]" {
		t.Errorf("got %s", text)
	}
	many := h.do(request{path: createPath, token: token, body: `{"name":"x","allowed_ips":[` + strings.Repeat("1,", 99) + "1]}"}).problem()
	if len(many.Errors) != 20 {
		t.Errorf("%d faults listed, want 20", len(many.Errors))
	}
}

func TestBodyTypeAndSize(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	pad := func(n int) string { return `{"name":"x"` + strings.Repeat(" ", n-len(`{"name":"x"}`)) + `}` }
	for _, c := range []struct {
		name   string
		header http.Header
		body   string
		status int
		code   string
	}{
		{"largest", nil, pad(64 << 10), 201, ""},
		{"larger", nil, pad(64<<10 + 1), 413, "body_too_large"},
		{"no type", http.Header{"Content-Type": nil}, pad(20), 415, "unsupported_media_type"},
		{"text", http.Header{"Content-Type": {"text/plain"}}, pad(20), 415, "unsupported_media_type"},
		{"form", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, pad(20), 415, "unsupported_media_type"},
		{"two types", http.Header{"Content-Type": {"application/json", "text/plain"}}, pad(20), 415, "unsupported_media_type"},
		{"suffix", http.Header{"Content-Type": {"application/problem+json"}}, pad(20), 415, "unsupported_media_type"},
		{"charset", http.Header{"Content-Type": {"Application/JSON; charset=UTF-8"}}, pad(20), 201, ""},
		{"other charset", http.Header{"Content-Type": {"application/json; charset=utf-16"}}, pad(20), 415, "unsupported_media_type"},
		{"compressed", http.Header{"Content-Encoding": {"gzip"}}, pad(20), 415, "unsupported_media_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			h.do(request{path: createPath, token: token, body: c.body, header: c.header}).want(c.status, c.code)
		})
	}
	h.t = t
	h.do(request{path: createPath, token: token, header: http.Header{"Content-Type": {"application/json"}}}).want(400, "invalid_json")
}
