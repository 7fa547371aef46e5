package envoy_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

var update = flag.Bool("update", false, "write the golden files")

// Behind a proxy, whose connections carry many clients, one of them does not
// have Envoy close it for a few resets.
func TestResetsBehindAProxy(t *testing.T) {
	const name = "overload.premature_reset_total_stream_count"
	for hops, want := range map[int]bool{0: true, 1: false} {
		config, err := envoy.Render(envoy.Options{TrustedHops: hops})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(config), name); got != want || !strings.Contains(string(config), "http.max_requests_per_io_cycle") {
			t.Errorf("%d proxies: %s is set: %v, want %v", hops, name, got, want)
		}
	}
}

func TestDefaultConfigurationIsTheGoldenOne(t *testing.T) {
	config, err := envoy.Render(envoy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "default.yaml")
	if *update {
		if err := os.WriteFile(path, config, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(config) != string(golden) {
		t.Errorf("the default configuration is not %s; look at the difference, then run go test -update", path)
	}
}

// Whatever its options, a configuration says what safety rests on, reads back
// as what it was rendered from and renders the same again.
func TestEveryConfiguration(t *testing.T) {
	lines := []string{ // each stands there once
		`failure_mode_allow: false`, `clear_route_cache: false`,
		`retry_on: connect-failure,refused-stream`, `headers_with_underscores_action: REJECT_REQUEST`, `normalize_path: true`,
		`merge_slashes: true`, `path_with_escaped_slashes_action: REJECT_REQUEST`, `use_remote_address: true`,
		`service_name: envoy.service.auth.v3.Authorization`, `address_prefix: 0.0.0.0`, `append_action: OVERWRITE_IF_EXISTS_OR_ADD`,
	}
	rapid.Check(t, func(t *rapid.T) {
		o := drawOptions(t)
		built, err := envoy.Bootstrap(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := built.ValidateAll(); err != nil {
			t.Fatal(err)
		}
		config, err := envoy.Render(o)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := envoy.Parse(config)
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(parsed, built) {
			t.Fatal("it reads back as another one")
		}
		again, err := envoy.Render(o)
		if err != nil || string(again) != string(config) {
			t.Fatalf("it renders differently the second time (%v)", err)
		}
		count := map[string]int{}
		for _, line := range lines {
			count[line] = 1
		}
		filters := []string{"header_mutation", "cors", "ext_authz", "router"}
		services, public := 1, 1
		if o.RateLimit.Service != "" {
			filters = []string{"header_mutation", "cors", "ext_authz", "ratelimit", "router"}
			services = 2
			count["failure_mode_deny: true"] = 1
		}
		count["- exact: x-request-id"] = 0
		if o.RequestID {
			count["- exact: x-request-id"] = 1
		}
		for _, route := range o.Routes {
			if route.Public {
				public++
			}
		}
		count["code: ServiceUnavailable"], count["transport_api_version: V3"] = services, services
		count["disabled: true"], count["forward_not_matching_preflights: true"] = public, 1+len(o.Routes)
		for line, want := range count {
			if n := strings.Count(string(config), " "+line+"\n"); n != want {
				t.Errorf("%s stands there %d times, want %d", line, n, want)
			}
		}
		rest := string(config)
		for _, name := range filters {
			_, after, found := strings.Cut(rest, "name: envoy.filters.http."+name+"\n")
			if !found {
				t.Fatalf("the filter %s does not stand after those before it", name)
			}
			rest = after
		}
	})
}

// drawOptions draws any options that are right.
func drawOptions(t *rapid.T) envoy.Options {
	address := rapid.SampledFrom([]string{"", "127.0.0.1:1", "[::1]:65535", "service.example:8080", "yes:1", "10.0.0.1:443"})
	ip := rapid.SampledFrom([]string{"", "127.0.0.1:0", "0.0.0.0:10000", "[::]:443"})
	o := envoy.Options{
		Listen:           ip.Draw(t, "listen"),
		EnvoyAdmin:       rapid.SampledFrom([]string{"", "127.0.0.1:9901", "[::1]:0"}).Draw(t, "admin"),
		AdminAPI:         address.Draw(t, "api"),
		Upstream:         address.Draw(t, "upstream"),
		AuthzTimeout:     time.Duration(rapid.IntRange(0, 5000).Draw(t, "timeout")) * time.Millisecond,
		UpstreamTimeout:  time.Duration(rapid.IntRange(-1, 1000).Draw(t, "upstream timeout")) * time.Second,
		TrustedHops:      rapid.IntRange(0, 100).Draw(t, "hops"),
		Bearer:           rapid.Bool().Draw(t, "bearer"),
		EncodeRawHeaders: rapid.Bool().Draw(t, "raw"),
		RequestID:        rapid.Bool().Draw(t, "request id"),
		AccessLog:        rapid.SampledFrom([]string{"", "/dev/stdout"}).Draw(t, "log"),
		Origins:          rapid.SampledFrom([][]string{nil, {"https://app.example.io"}, {"null", "https://a.example"}}).Draw(t, "origins"),
		CORSHeaders:      rapid.SampledFrom([][]string{nil, {"x-trace"}, {"api-key", "content-type"}}).Draw(t, "cors"),
		KeyHeaders:       rapid.SampledFrom([][]string{nil, {"x-token"}, {"api-key", "x-token"}, {"true"}}).Draw(t, "keys"),
		Authz:            rapid.SampledFrom([][]string{nil, {"unix:/run/a.sock"}, {"unix:/a", "unix:/b"}, {"127.0.0.1:1", "127.0.0.1:2"}, {"a.example:1"}}).Draw(t, "authz"),
	}
	o.UpstreamProtocol = rapid.SampledFrom([]envoy.Protocol{"", envoy.HTTP1, envoy.HTTP2, envoy.SameAsClient}).Draw(t, "protocol")
	o.TLS = rapid.SampledFrom([]envoy.TLS{{}, {Certificate: "/c.pem", Key: "/k.pem"}}).Draw(t, "TLS")
	o.RateLimit.Service = rapid.SampledFrom([]string{"", "127.0.0.1:8081", "limits.example:8081"}).Draw(t, "rate limit")
	o.Routes = rapid.SampledFrom([][]envoy.Route{nil, {{Path: "/healthz", Public: true}}, allRoutes()}).Draw(t, "routes")
	if o.Authz == nil || o.Authz[0][:5] != "unix:" {
		tls := rapid.SampledFrom([]envoy.ServiceTLS{{}, {CA: "/ca.pem"}, {CA: "/ca.pem", Certificate: "/c.pem", Key: "/k.pem", Names: []string{"spiffe://a/b", "a.example", "::1"}}})
		o.AuthzTLS, o.AdminTLS = tls.Draw(t, "TLS to the service"), tls.Draw(t, "TLS to the admin API")
		o.TLSSecrets = rapid.SampledFrom([]string{"", "/etc/envoy/secrets"}).Draw(t, "secrets")
	}
	if rapid.Bool().Draw(t, "own identity") {
		o.Identity = envoy.Identity{KeyID: "x-id", Owner: "x-owner"}
	}
	return o
}

func TestWrongOptionsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name string
		o    envoy.Options
		want string
	}{
		{"no port", envoy.Options{Listen: "127.0.0.1"}, `option Listen "127.0.0.1": expected an IP address and a port`},
		{"a name to listen on", envoy.Options{Listen: "localhost:80"}, `option Listen "localhost:80"`},
		{"TLS to anybody", envoy.Options{AuthzTLS: envoy.ServiceTLS{Certificate: "/c", Key: "/k"}}, "option AuthzTLS: expected a CA"},
		{"TLS with half a certificate", envoy.Options{AdminTLS: envoy.ServiceTLS{CA: "/ca", Certificate: "/c"}}, "option AdminTLS: expected both a certificate and a key"},
		{"TLS by a relative path", envoy.Options{AuthzTLS: envoy.ServiceTLS{CA: "ca"}}, "option AuthzTLS: expected absolute paths"},
		{"TLS to a socket", envoy.Options{Authz: []string{"unix:/s"}, AuthzTLS: envoy.ServiceTLS{CA: "/ca"}}, "option AuthzTLS: expected none for a Unix socket"},
		{"relative secrets", envoy.Options{TLSSecrets: "s"}, `option TLSSecrets "s": expected an absolute path`},
		{"an open admin interface", envoy.Options{EnvoyAdmin: "0.0.0.0:9901"}, `option EnvoyAdmin "0.0.0.0:9901": expected a loopback address`},
		{"an admin interface by name", envoy.Options{EnvoyAdmin: "localhost:9901"}, `option EnvoyAdmin "localhost:9901": expected an IP address`},
		{"no service", envoy.Options{Authz: []string{}}, `option Authz: expected at least one`},
		{"a relative socket", envoy.Options{Authz: []string{"unix:a.sock"}}, `option Authz: "unix:a.sock": expected unix: and an absolute path`},
		{"both kinds", envoy.Options{Authz: []string{"unix:/a", "127.0.0.1:1"}}, `option Authz: expected either`},
		{"port 0", envoy.Options{Authz: []string{"127.0.0.1:0"}}, `option Authz: "127.0.0.1:0": expected a host and a port`},
		{"a port too large", envoy.Options{Upstream: "a:65536"}, `option Upstream "a:65536"`},
		{"no host", envoy.Options{AdminAPI: ":80"}, `option AdminAPI ":80"`},
		{"a zone", envoy.Options{Upstream: "[fe80::1%eth0]:80"}, `option Upstream "[fe80::1%eth0]:80"`},
		{"too fast", envoy.Options{AuthzTimeout: time.Microsecond}, `option AuthzTimeout 1µs: expected at least 1ms`},
		{"negative hops", envoy.Options{TrustedHops: -1}, `option TrustedHops -1`},
		{"an origin with a path", envoy.Options{Origins: []string{"https://a.example/"}}, `option Origins "https://a.example/"`},
		{"a wildcard origin", envoy.Options{Origins: []string{"*"}}, `option Origins "*"`},
		{"no key header", envoy.Options{KeyHeaders: []string{}}, `option KeyHeaders: expected at least one`},
		{"upper case", envoy.Options{KeyHeaders: []string{"Api-Key"}}, `header "Api-Key": expected a header name in lower case`},
		{"an underscore", envoy.Options{KeyHeaders: []string{"api_key"}}, `header "api_key"`},
		{"not a name", envoy.Options{CORSHeaders: []string{"a b"}}, `header "a b"`},
		{"a line break", envoy.Options{ClientAddressHeader: "a\r\nb"}, `header "a\r\nb"`},
		{"a name twice", envoy.Options{KeyHeaders: []string{"x-api-key-id"}}, `header "x-api-key-id": expected one use`},
		{"a name with a meaning", envoy.Options{Identity: envoy.Identity{KeyID: "origin"}}, `header "origin": expected a name that has no other meaning`},
		{"an unknown protocol", envoy.Options{UpstreamProtocol: "http3"}, `option UpstreamProtocol "http3": expected http1, http2 or client`},
		{"a certificate without a key", envoy.Options{TLS: envoy.TLS{Certificate: "/c.pem"}}, `option TLS: expected both`},
		{"a relative certificate", envoy.Options{TLS: envoy.TLS{Certificate: "c.pem", Key: "/k.pem"}}, `option TLS: expected absolute paths`},
		{"a rate limit service without a port", envoy.Options{RateLimit: envoy.RateLimit{Service: "limits"}}, `option RateLimit: service "limits": expected a host and a port`},
		{"a rate limit service too fast", envoy.Options{RateLimit: envoy.RateLimit{Timeout: time.Microsecond}}, `option RateLimit: expected a timeout of at least 1ms`},
		{"a route without a slash", envoy.Options{Routes: []envoy.Route{{Path: "v1"}}}, `option Routes: path "v1": expected a path`},
		{"a route with an escape", envoy.Options{Routes: []envoy.Route{{Path: "/v%31"}}}, `option Routes: path "/v%31": expected a path`},
		{"a route with a query", envoy.Options{Routes: []envoy.Route{{Path: "/v1?x"}}}, `option Routes: path "/v1?x": expected a path`},
		{"a route with a wildcard", envoy.Options{Routes: []envoy.Route{{Path: "/v1/*"}}}, `option Routes: path "/v1/*": expected a path`},
		{"a route with dots", envoy.Options{Routes: []envoy.Route{{Path: "/v1/../v2"}}}, `option Routes: path "/v1/../v2": expected a path without dot segments`},
		{"a route with two slashes", envoy.Options{Routes: []envoy.Route{{Path: "//v1"}}}, `option Routes: path "//v1": expected a path`},
		{"a route twice", envoy.Options{Routes: []envoy.Route{{Path: "/v1"}, {Path: "/v1", Cost: 2}}}, `option Routes: path "/v1": expected once`},
		{"a route of the admin API", envoy.Options{Routes: []envoy.Route{{Path: "/api/users/auth/login"}}}, `option Routes: path "/api/users/auth/login": expected a path of the upstream`},
		{"the admin API as a route", envoy.Options{Routes: []envoy.Route{{Path: "/api/users/auth"}}}, `option Routes: path "/api/users/auth": expected a path of the upstream`},
		{"a public route with a scope", envoy.Options{Routes: []envoy.Route{{Path: "/v1", Public: true, Scope: "a"}}}, `option Routes: path "/v1": expected no other rule beside public`},
		{"a scope that is none", envoy.Options{Routes: []envoy.Route{{Path: "/v1", Scope: "Reports"}}}, `option Routes: path "/v1": scope "Reports": expected a name`},
		{"a path for a scope", envoy.Options{Routes: []envoy.Route{{Path: "/v1", Scope: "/v1"}}}, `option Routes: path "/v1": scope "/v1": expected a name`},
		{"a negative cost", envoy.Options{Routes: []envoy.Route{{Path: "/v1", Cost: -1}}}, `option Routes: path "/v1": cost -1: expected 1 to`},
		{"the address in x-forwarded-for", envoy.Options{ClientAddressHeader: "x-forwarded-for"}, `header "x-forwarded-for"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := envoy.Render(c.o)
			if err == nil || !strings.HasPrefix(err.Error(), "envoy: "+c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, config := range map[string]string{
		"an unknown field":   "static_resources: {listener: []}",
		"a field twice":      "admin: {}\nadmin: {}",
		"another type":       "static_resources: 1",
		"an unknown filter":  "overload_manager: {resource_monitors: [{name: x, typed_config: {'@type': type.googleapis.com/x.Y}}]}",
		"what is no YAML":    "{",
		"several at a time":  "admin: {}\n---\nadmin: {}\n...",
		"an unknown setting": "nope: 1",
	} {
		if _, err := envoy.Parse([]byte(config)); err == nil && name != "several at a time" {
			t.Errorf("%s was read", name)
		}
	}
}

// allRoutes has every rule that a route can have.
func allRoutes() []envoy.Route {
	return []envoy.Route{
		{Path: "/healthz", Public: true}, {Path: "/docs/", Public: true}, {Path: "/v1/tokens/", Anonymous: true},
		{Path: "/v1/reports", Scope: "reports:read", Cost: 10}, {Path: "/v1/reports/new", Scope: "reports:write", Cost: 100}, {Path: "/v1/plain"},
	}
}

// Envoy itself accepts every kind of configuration.
func TestEnvoyAccepts(t *testing.T) {
	program := envoytest.Require(t)
	certificate := envoytest.Certificate(t)
	for name, o := range map[string]envoy.Options{
		"defaults":           {},
		"everything":         everything(),
		"sockets":            {Authz: []string{"unix:/run/a.sock", "unix:/run/b.sock"}},
		"two services":       {Authz: []string{"127.0.0.1:9001", "127.0.0.1:9011"}},
		"IPv6":               {Listen: "[::1]:10000", Upstream: "[::1]:8080", EnvoyAdmin: "[::1]:9901"},
		"one proxy before":   {TrustedHops: 1},
		"no upstream limit":  {UpstreamTimeout: -1},
		"raw headers":        {EncodeRawHeaders: true},
		"TLS":                {TLS: certificate.TLS},
		"gRPC upstream":      {UpstreamProtocol: envoy.HTTP2},
		"any upstream":       {UpstreamProtocol: envoy.SameAsClient},
		"routes":             {Routes: allRoutes()},
		"a rate limit":       {RateLimit: envoy.RateLimit{Service: "127.0.0.1:8081"}},
		"names that resolve": {Authz: []string{"localhost:9001"}, AdminAPI: "localhost:9002", Upstream: "localhost:8080"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := envoy.Render(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := envoy.Validate(t.Context(), program, config); err != nil {
				t.Error(err)
			}
		})
	}
}

func everything() envoy.Options {
	return envoy.Options{
		Listen: "0.0.0.0:8000", EnvoyAdmin: "127.0.0.1:9901", Authz: []string{"localhost:9001"}, AuthzTimeout: time.Second,
		AdminAPI: "localhost:9002", Upstream: "localhost:8080", UpstreamTimeout: time.Minute, KeyHeaders: []string{"api-key", "x-token"},
		Bearer: true, ClientAddressHeader: "x-real-client", TrustedHops: 2, Identity: envoy.Identity{KeyID: "x-id", KeyName: "x-name", Owner: "x-owner"},
		UpstreamProtocol: envoy.SameAsClient, Routes: allRoutes(), RateLimit: envoy.RateLimit{Service: "localhost:8081", Domain: "api", Timeout: time.Second},
		Origins: []string{"https://app.example.io"}, CORSHeaders: []string{"x-trace"}, EncodeRawHeaders: true, AccessLog: "/dev/stdout",
	}
}

func TestValidateSaysWhatEnvoySays(t *testing.T) {
	program := envoytest.Require(t)
	config, err := envoy.Render(envoy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(config), "cluster: upstream", "cluster: missing", 1)
	err = envoy.Validate(t.Context(), program, []byte(broken))
	if err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v, want an error that names the cluster", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "envoy")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	python := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\necho %s\n", program)
	if err := os.WriteFile(filepath.Join(python, "python3"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, variable, path, want, err string }{
		{"by variable", program, "", program, ""},
		{"by variable before the path", program, python, program, ""},
		{"a variable that is wrong", filepath.Join(dir, "none"), dir, "", "ENVOY_BIN"},
		{"on the path", "", dir, program, ""},
		{"by Python", "", python, program, ""},
		{"nowhere", "", t.TempDir(), "", "no Envoy found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("ENVOY_BIN", c.variable)
			t.Setenv("PATH", c.path)
			got, err := envoy.Find()
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
