package doctor_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/doctor"
)

// ours is a configuration as this project renders it.
func ours(t testing.TB) string {
	t.Helper()
	text, err := envoy.Render(envoy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func examine(t testing.TB, text string) []doctor.Finding {
	t.Helper()
	config, err := doctor.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return doctor.Examine(config, doctor.Options{AddressHeader: "x-client-ip"})
}

func codesOf(findings []doctor.Finding, least doctor.Severity) []string {
	var codes []string
	for _, f := range findings {
		if f.Severity >= least && !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

func TestOwnConfiguration(t *testing.T) {
	if codes := codesOf(examine(t, ours(t)), doctor.Advice); !slices.Equal(codes, []string{"route-disabled"}) {
		t.Errorf("got %v", codes)
	}
}

// Each way to spoil a good configuration is found, and nothing else is.
func TestExamine(t *testing.T) {
	for _, c := range []struct {
		name, from, to string
		code           string
		severity       doctor.Severity
	}{
		{"open while the service is away", "failure_mode_allow: false", "failure_mode_allow: true", "failure-mode-allow", doctor.Danger},
		{"403 while the service is away", "code: ServiceUnavailable", "code: Forbidden", "status-on-error", doctor.Warning},
		{"route cache", "clear_route_cache: false", "clear_route_cache: true", "clear-route-cache", doctor.Warning},
		{"body", "stat_prefix: tokenkit", "stat_prefix: tokenkit\n                      with_request_body: {max_request_bytes: 1}", "request-body", doctor.Warning},
		{"sampled", "stat_prefix: tokenkit", "stat_prefix: tokenkit\n                      filter_enabled: {default_value: {numerator: 50}}", "filter-enabled", doctor.Danger},
		{"by metadata", "stat_prefix: tokenkit", "stat_prefix: tokenkit\n                      filter_enabled_metadata: {filter: x}", "filter-enabled", doctor.Danger},
		{"HTTP", "grpc_service:", "http_service: {}\n                      grpc_service:", "http-service", doctor.Danger},
		{"long timeout", "timeout: 0.250s\n                        retry_policy", "timeout: 600s\n                        retry_policy", "timeout", doctor.Warning},
		{"no timeout", "timeout: 0.250s\n                        retry_policy", "retry_policy", "timeout", doctor.Advice},
		{"retries", "retry_on: connect-failure,refused-stream", "retry_on: connect-failure,5xx", "retries", doctor.Warning},
		{"no cluster", "cluster_name: authz\n                        timeout", "cluster_name: auth\n                        timeout", "cluster", doctor.Danger},
		{"HTTP/1.1 to the service", "            http2_protocol_options:\n              connection_keepalive", "            http_protocol_options:\n              connection_keepalive", "http2", doctor.Danger},
		{"no health checks", "      health_checks:", "      checks:", "health-checks", doctor.Advice},
		{"dot segments", "normalize_path: true", "normalize_path: false", "normalize-path", doctor.Danger},
		{"slashes", "merge_slashes: true", "merge_slashes: false", "merge-slashes", doctor.Warning},
		{"escaped slashes", "path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED", "escaped-slashes", doctor.Warning},
		{"underscores", "headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW", "underscores", doctor.Danger},
		{"forwarded for", "use_remote_address: true", "use_remote_address: false", "remote-address", doctor.Warning},
		{"internal addresses", "cidr_ranges:", "ranges:", "internal-addresses", doctor.Warning},
		{"address header", "key: x-client-ip", "key: x-client", "address-header", doctor.Danger},
		{"address header appended", "OVERWRITE_IF_EXISTS_OR_ADD\n                          - remove", "APPEND_IF_EXISTS_OR_ADD\n                          - remove", "address-header", doctor.Danger},
		{"identity header", "- remove: x-api-key-owner", "- remove: x-api-key", "identity", doctor.Warning},
		{"disabled", "- name: envoy.filters.http.ext_authz\n                    typed_config", "- name: envoy.filters.http.ext_authz\n                    disabled: true\n                    typed_config", "disabled", doctor.Danger},
		{"a filter before", "                  # Before ext_authz: a preflight", "                  - name: envoy.filters.http.local_ratelimit\n                  # Before ext_authz: a preflight", "order", doctor.Danger},
		{"CORS behind", "                  - name: envoy.filters.http.router", "                  - name: envoy.filters.http.cors\n                  - name: envoy.filters.http.router", "cors-order", doctor.Warning},
		{"no ext_authz", "ext_authz.v3.ExtAuthz\n", "ext_authz.v3.Other\n", "no-ext-authz", doctor.Danger},
		{"no listener", "HttpConnectionManager", "Other", "no-listener", doctor.Danger},
		{"resets", "http.max_requests_per_io_cycle: 3", "http.max_requests_per_io_cycle: 0", "reset-flood", doctor.Warning},
		{"no runtime", "        http.max_requests_per_io_cycle: 3\n", "", "reset-flood", doctor.Warning},
		{"no catch-all", "prefix: /\n", "prefix: /v1/\n", "catch-all", doctor.Advice},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := ours(t)
			spoiled := strings.Replace(text, c.from, c.to, 1)
			if spoiled == text {
				t.Fatal("the configuration has nothing of the kind")
			}
			findings := examine(t, spoiled)
			codes := codesOf(findings, doctor.Advice)
			codes = slices.DeleteFunc(codes, func(code string) bool { return code == "route-disabled" })
			if !slices.Equal(codes, []string{c.code}) {
				t.Fatalf("got %v", codes)
			}
			for _, f := range findings {
				if f.Code == c.code && (f.Severity != c.severity || f.Where == "" || f.Fix == "") {
					t.Errorf("got %v", f)
				}
			}
		})
	}
}

// Switches are found in each of the forms that Envoy takes; the last layer
// counts. They are not missed where no client opens streams, nor where no
// bootstrap is at hand.
func TestRuntime(t *testing.T) {
	const set = "http.max_requests_per_io_cycle: 3"
	const end = "overload.premature_reset_total_stream_count: 30" // of the layer
	for name, c := range map[string]struct {
		from, to string
		least    doctor.Severity
		missed   bool
	}{
		"nested":          {set, "http: {max_requests_per_io_cycle: 3}", doctor.Advice, false},
		"as a text":       {set, `http.max_requests_per_io_cycle: "3"`, doctor.Advice, false},
		"no number":       {set, "http.max_requests_per_io_cycle: all", doctor.Warning, true},
		"no bound":        {set, "http.max_requests_per_io_cycle: 4294967295", doctor.Warning, true},
		"a later layer":   {end, end + "\n    - {name: later, static_layer: {http: {max_requests_per_io_cycle: 0}}}", doctor.Warning, true},
		"an earlier one":  {"    - name: limits\n", "    - {name: earlier, static_layer: {http: {max_requests_per_io_cycle: 0}}}\n    - name: limits\n", doctor.Advice, false},
		"by admin":        {end, end + "\n    - {name: admin, admin_layer: {}}", doctor.Warning, true},
		"somewhere else":  {end, end + "\n    - {name: more, rtds_layer: {name: more}}", doctor.Advice, true},
		"HTTP/1.1 only":   {"stat_prefix: front\n", "stat_prefix: front\n                codec_type: HTTP1\n", doctor.Advice, false},
		"no bootstrap":    {"static_resources:", "resources:", doctor.Advice, false},
		"another message": {end, end + "\n  metadata: {http: {max_requests_per_io_cycle: 3}}", doctor.Warning, true},
	} {
		text := strings.Replace(ours(t), c.from, c.to, 1)
		if text == ours(t) {
			t.Fatalf("%s: the configuration has nothing of the kind", name)
		}
		switch name {
		case "HTTP/1.1 only", "by admin", "somewhere else", "another message":
			text = strings.Replace(text, set, "other: 1", 1)
		case "no bootstrap":
			text = strings.Replace(text, "layered_runtime:", "runtime:", 1)
		}
		missed := slices.ContainsFunc(examine(t, text), func(f doctor.Finding) bool { return f.Code == "reset-flood" && f.Severity == c.least })
		found := slices.Contains(codesOf(examine(t, text), doctor.Advice), "reset-flood")
		if missed != c.missed || found != c.missed {
			t.Errorf("%s: missed %v, as %v %v", name, found, c.least, missed)
		}
	}
}

// JSON in camel case, and wrapped as /config_dump wraps it, is read alike.
func TestReadForms(t *testing.T) {
	var document map[string]any
	if err := yaml.Unmarshal([]byte(strings.Replace(ours(t), "failure_mode_allow: false", "failure_mode_allow: true", 1)), &document); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{
		"bootstrap": document,
		"dump":      map[string]any{"configs": []any{map[string]any{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": document}}},
		"camel":     camel(document),
	} {
		wire, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if codes := codesOf(examine(t, string(wire)), doctor.Warning); !slices.Equal(codes, []string{"failure-mode-allow"}) {
			t.Errorf("%s: got %v", name, codes)
		}
	}
	for _, text := range []string{"[", "just text", "[]", ""} {
		if _, err := doctor.Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

func camel(value any) any {
	switch v := value.(type) {
	case map[string]any:
		o := map[string]any{}
		for name, inner := range v {
			if !strings.ContainsAny(name, ".@") {
				words := strings.Split(name, "_")
				for i, word := range words[1:] {
					words[i+1] = strings.ToUpper(word[:1]) + word[1:]
				}
				name = strings.Join(words, "")
			}
			o[name] = camel(inner)
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = camel(v[i])
		}
		return list
	}
	return value
}

// Whatever is read, examining it ends.
func FuzzExamine(f *testing.F) {
	f.Add(ours(f))
	f.Add("configs: [{a: &a [1], b: *a}]")
	f.Fuzz(func(t *testing.T, text string) {
		config, err := doctor.Read(strings.NewReader(text))
		if err == nil {
			doctor.Examine(config, doctor.Options{})
		}
	})
}
