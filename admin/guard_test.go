package admin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
)

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		name, listen string
		allowed      []string
		host         string
		want         int
	}{
		{"localhost", "", nil, "localhost", 200},
		{"localhost with a port", "", nil, "LocalHost:9002", 200},
		{"localhost with the root's dot", "", nil, "localhost.:9002", 200},
		{"loopback", "", nil, "127.0.0.1:9002", 200},
		{"other loopback", "", nil, "127.9.9.9", 200},
		{"IPv6 loopback", "", nil, "[::1]:9002", 200},
		{"mapped loopback", "", nil, "[::ffff:127.0.0.1]:9002", 200},
		{"a name", "", nil, "evil.test", 421},
		{"a name with a port", "127.0.0.1:9002", nil, "evil.test:9002", 421},
		{"a name below localhost", "", nil, "localhost.evil.test", 421},
		{"a name above localhost", "", nil, "evil.localhost", 421},
		{"an address", "127.0.0.1:9002", nil, "192.0.2.1", 421},
		{"a private address", "127.0.0.1:9002", nil, "10.0.0.1:9002", 421},
		{"the listen address", "192.0.2.1:9002", nil, "192.0.2.1:9002", 200},
		{"beside the listen address", "192.0.2.1:9002", nil, "192.0.2.2:9002", 421},
		{"the listen name", "keys.example:9002", nil, "keys.example", 200},
		{"any address on the unspecified one", "0.0.0.0:9002", nil, "192.0.2.1:9002", 200},
		{"any address on every interface", ":9002", nil, "[2001:db8::1]", 200},
		{"a name on the unspecified address", "[::]:9002", nil, "evil.test", 421},
		{"an allowed name", "", []string{"api.example.io"}, "API.example.io:443", 200},
		{"below an allowed name", "", []string{"api.example.io"}, "x.api.example.io", 421},
		{"an allowed address", "", []string{"[2001:DB8::1]"}, "[2001:db8::1]", 200},
		{"two hosts", "", nil, "localhost,evil.test", 421},
		{"bad port", "", nil, "localhost:x:y", 421},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, func(o *admin.Options) { o.ListenAddress, o.AllowedHosts = c.listen, c.allowed })
			got := h.do(request{path: loginPath, body: loginBody("ada", adaPassword), host: c.host})
			if c.want == 200 {
				got.want(200, "")
				return
			}
			got.want(421, "misdirected_request")
			h.do(request{method: "GET", path: "/livez", host: c.host}).want(200, "")
			h.do(request{method: "GET", path: "/readyz", host: c.host}).want(200, "")
			h.do(request{method: "GET", path: "/livez/", host: c.host}).want(421, "misdirected_request")
		})
	}
}

func TestCrossOrigin(t *testing.T) {
	h := newHarness(t, nil)
	for _, c := range []struct {
		name   string
		header http.Header
		status int
		code   string
	}{
		{"a program", nil, 200, ""},
		{"our own page", http.Header{"Origin": {"http://localhost"}, "Sec-Fetch-Site": {"same-origin"}}, 200, ""},
		{"a foreign page", http.Header{"Origin": {"https://evil.test"}, "Sec-Fetch-Site": {"cross-site"}}, 403, "cross_origin"},
		{"a sibling", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403, "cross_origin"},
		{"an old browser", http.Header{"Origin": {"https://evil.test"}}, 403, "cross_origin"},
		{"a sandbox", http.Header{"Origin": {"null"}}, 403, "cross_origin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			h.do(request{path: loginPath, body: loginBody("ada", adaPassword), header: c.header}).want(c.status, c.code)
		})
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	for _, r := range []request{
		{method: "GET", path: listPath, token: token}, {path: loginPath, body: "{"}, {method: "GET", path: "/nothing"}, {path: "/livez"},
		{method: "GET", path: "/livez"}, {method: "GET", path: listPath, host: "evil.test"}, {method: "GET", path: "/openapi.json"},
		{path: loginPath, header: http.Header{"Origin": {"https://evil.test"}}}, {path: logoutPath, token: token},
	} {
		got := h.do(r)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
			"Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "", "Location": "",
		} {
			if value := got.header.Get(name); value != want {
				t.Errorf("%s %s: %s: %q, want %q", r.method, r.path, name, value, want)
			}
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	h := newHarness(t, nil)
	for _, c := range []struct{ method, path, allow string }{
		{"GET", loginPath, "POST"}, {"GET", strings.TrimSuffix(loginPath, "/"), "POST"}, {"POST", listPath, "GET, HEAD"}, {"DELETE", listPath, "GET, HEAD"},
		{"PUT", createPath, "POST"}, {"OPTIONS", createPath, "POST"}, {"POST", "/livez", "GET, HEAD"}, {"POST", "/openapi.json", "GET, HEAD"},
	} {
		if got := h.do(request{method: c.method, path: c.path}).want(405, "method_not_allowed"); got.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow: %q, want %q", c.method, c.path, got.header.Get("Allow"), c.allow)
		}
	}
	for _, path := range []string{"/", "/api", "/api/users/auth/", loginPath + "x", "/operator/v1/users", "/schemas/Key", "/openapi-3.0.json"} {
		h.do(request{method: "GET", path: path}).want(404, "not_found")
	}
}

func TestReady(t *testing.T) {
	var cause error
	h := newHarness(t, func(o *admin.Options) { o.Ready = func(context.Context) error { return cause } })
	h.do(request{method: "GET", path: "/readyz"}).want(200, "")
	cause = errors.New("the disk is away")
	if got := h.do(request{method: "GET", path: "/readyz"}).want(503, "not_ready"); strings.Contains(got.body, "disk") {
		t.Errorf("the answer tells the cause: %s", got.body)
	}
	h.do(request{method: "GET", path: "/livez"}).want(200, "")
	if !strings.Contains(h.log.String(), "the disk is away") {
		t.Error("the log does not tell the cause")
	}
}

// A panic is answered, and what it held reaches neither client nor log.
func TestPanics(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) {
		o.Store = hookedStore{Store: o.Store, createKey: func(context.Context) error { panic(fmt.Sprint("canary", "-in-a-panic")) }}
	})
	got := h.do(request{path: createPath, body: `{"name":"x"}`, token: h.login("ada", adaPassword)}).want(500, "internal_error")
	if strings.Contains(got.body+h.log.String(), "canary-in-a-panic") {
		t.Error("the panic's value was told")
	}
	if !strings.Contains(h.log.String(), "failed unexpectedly") || !strings.Contains(h.log.String(), "POST /api/users/auth/create-api-key") {
		t.Error("the panic was not logged with its route")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := openStore(t)
	for _, c := range []struct {
		name, want string
		options    admin.Options
	}{
		{"no store", "Store", admin.Options{}},
		{"short sessions", "SessionTTL", admin.Options{Store: good, SessionTTL: 1}},
		{"sessions that are idle at once", "SessionIdle", admin.Options{Store: good, SessionIdle: time.Minute}},
		{"negative sessions", "SessionTTL", admin.Options{Store: good, SessionTTL: -1}},
		{"large default limit", "DefaultRateLimit", admin.Options{Store: good, DefaultRateLimit: 1_000_000_001}},
		{"no memory", "Passwords: memory in KiB", admin.Options{Store: good, Passwords: admin.PasswordCost{Passes: 1, Parallelism: 1}}},
		{"no passes", "Passwords: passes", admin.Options{Store: good, Passwords: admin.PasswordCost{MemoryKiB: 8, Parallelism: 1}}},
		{"no threads", "Passwords: parallelism", admin.Options{Store: good, Passwords: admin.PasswordCost{MemoryKiB: 8, Passes: 1}}},
		{"a proxy's header with a space", "ClientAddressHeader", admin.Options{Store: good, ClientAddressHeader: "x client"}},
		{"a host with a port", "AllowedHosts[1]", admin.Options{Store: good, AllowedHosts: []string{"a.example", "a.example:443"}}},
		{"an empty host", "AllowedHosts[0]", admin.Options{Store: good, AllowedHosts: []string{""}}},
		{"a URL for a host", "AllowedHosts[0]", admin.Options{Store: good, AllowedHosts: []string{"https://a.example"}}},
		{"a wildcard for a host", "AllowedHosts[0]", admin.Options{Store: good, AllowedHosts: []string{"*.example"}}},
		{"no listen port", "ListenAddress", admin.Options{Store: good, ListenAddress: "127.0.0.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := admin.New(c.options); err == nil || !strings.Contains(err.Error(), c.want+": expected") {
				t.Errorf("got %v, want one that names %s", err, c.want)
			}
		})
	}
}
