package admin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

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

// A body that does not arrive in time, or breaks off, is refused as that.
func TestBodyThatDoesNotArrive(t *testing.T) {
	h := newHarness(t, nil)
	for _, c := range []struct {
		cause  error
		status int
		code   string
	}{
		{fmt.Errorf("read tcp: %w", os.ErrDeadlineExceeded), 408, `"request_timeout"`}, {io.ErrUnexpectedEOF, 400, `"invalid_json"`},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://localhost"+loginPath, io.MultiReader(strings.NewReader(`{"user`), iotest.ErrReader(c.cause)))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.admin.Handler().ServeHTTP(w, r)
		h.checkDocumented(r.Method, loginPath, w)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.code) {
			t.Errorf("%v: got %d %s", c.cause, w.Code, w.Body)
		}
	}
}
