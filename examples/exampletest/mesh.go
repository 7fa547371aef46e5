package exampletest

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"text/template"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// Mesh is the Envoy that a mesh makes of its resources, as far as they matter
// to the service. Its parts are YAML, in one line or indented by nothing.
type Mesh struct {
	// Manager are settings of the HTTP connection manager.
	Manager string
	// Filters are the HTTP filters before the router.
	Filters string
	// AdminPolicy and Policy are what typed_per_filter_config holds for the
	// routes to the admin API and to the upstream.
	AdminPolicy, Policy string
	// RemoveOnAdmin are request headers that are removed on the former.
	RemoveOnAdmin []string
	// Cluster is the name of the service's cluster.
	Cluster string
}

const meshTemplate = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: gateway
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gateway
{{indent 10 .Mesh.Manager}}
          upgrade_configs: [{upgrade_type: websocket}]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {path_separated_prefix: /api/users/auth}
                route: {cluster: admin-api}
{{- if .Mesh.AdminPolicy}}
                typed_per_filter_config:
{{indent 18 .Mesh.AdminPolicy}}
{{- end}}
{{- if .Mesh.RemoveOnAdmin}}
                request_headers_to_remove: [{{range .Mesh.RemoveOnAdmin}}{{.}}, {{end}}]
{{- end}}
              - match: {prefix: /}
                route: {cluster: upstream}
{{- if .Mesh.Policy}}
                typed_per_filter_config:
{{indent 18 .Mesh.Policy}}
{{- end}}
          http_filters:
{{indent 10 .Mesh.Filters}}
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
{{- range $name, $address := .Clusters}}
  - name: {{printf "%q" $name}}
    type: STATIC
    load_assignment:
      cluster_name: {{printf "%q" $name}}
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {{$address}}}}}]}]
{{- if eq $name $.Mesh.Cluster}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
{{- end}}
{{- end}}
`

// Start runs the Envoy until the test ends.
func (m Mesh) Start(t testing.TB, service *Service, upstream string) *envoytest.Instance {
	t.Helper()
	address := func(text string) string {
		host, port, _ := strings.Cut(text, ":")
		return "{address: " + host + ", port_value: " + port + "}"
	}
	var config bytes.Buffer
	parsed, err := template.New("").Funcs(template.FuncMap{"indent": func(by int, text string) string {
		return strings.Repeat(" ", by) + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+strings.Repeat(" ", by))
	}}).Parse(meshTemplate)
	if err == nil {
		err = parsed.Execute(&config, map[string]any{"Mesh": m, "Clusters": map[string]string{
			m.Cluster: address(service.Check), "admin-api": address(service.Admin), "upstream": address(upstream),
		}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return envoytest.StartConfig(t, config.Bytes())
}

// Try sends through the Envoy what every mesh must answer alike. A mesh that
// answers preflights itself has the upstream see none.
func (m Mesh) Try(t *testing.T, answersPreflights bool) {
	t.Helper()
	service := Serve(t, Build(t), "--client-address", "forwarded:0", "--block-never", "127.0.0.1")
	open, web, server := service.NewKey(t), service.NewKey(t, "--origin", "https://app.example.io"), service.NewKey(t, "--ip", "203.0.113.10")
	upstream := echo.Start(t)
	front := m.Start(t, service, upstream.Address())
	preflight := []string{"Origin", "https://app.example.io", "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "api-key"}
	seen := 1
	if answersPreflights {
		seen = 0
	}
	for _, c := range []struct {
		name, method, path string
		headers            []string
		status, arrive     int
	}{
		{"a key", "GET", "/api/tokens/", []string{"Api-Key", open, "X-Api-Key-Id", "forged", "X-Api-Key-Owner", "forged"}, 200, 1},
		{"no key", "GET", "/api/tokens/", nil, 401, 0},
		{"a wrong key", "GET", "/api/tokens/", []string{"Api-Key", "tk_wrong"}, 401, 0},
		{"a page's key", "GET", "/", []string{"Api-Key", web, "Origin", "https://app.example.io"}, 200, 1},
		{"a page's key elsewhere", "GET", "/", []string{"Api-Key", web, "Origin", "https://evil.example"}, 403, 0},
		{"a made-up address", "GET", "/", []string{"Api-Key", server, "X-Forwarded-For", "203.0.113.10"}, 403, 0},
		{"a preflight", "OPTIONS", "/api/tokens/", preflight, 200, seen},
		{"OPTIONS that is no preflight", "OPTIONS", "/api/tokens/", nil, 401, 0},
		{"OPTIONS from a page that is no preflight", "OPTIONS", "/api/tokens/", []string{"Origin", "https://app.example.io"}, 401, 0},
		{"OPTIONS of no page that asks for a method", "OPTIONS", "/api/tokens/", []string{"Access-Control-Request-Method", "GET"}, 401, 0},
		{"GET with the headers of a preflight", "GET", "/api/tokens/", preflight, 401, 0},
		{"the admin API", "GET", envoy.AdminPrefix + "api-keys/", []string{"X-Api-Key-Id", "forged"}, 401, 0},
		{"an identity header with underscores", "GET", "/api/tokens/", []string{"Api-Key", open, "X_api_key_id", "forged"}, 400, 0},
		{"an identity header with an underscore", "GET", "/api/tokens/", []string{"Api-Key", open, "X-Api-Key_owner", "forged"}, 400, 0},
		{"past the admin API by dots", "GET", envoy.AdminPrefix + "../../../api/tokens/", nil, 401, 0},
		{"past the admin API by escaped dots", "GET", envoy.AdminPrefix + "%2e%2e/%2e%2e/tokens/", nil, 401, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := upstream.Count()
			answer := Do(t, c.method, front.URL+c.path, c.headers...)
			if answer.Status != c.status || upstream.Count()-before != c.arrive {
				t.Errorf("status %d and %d requests upstream, want %d and %d: %s", answer.Status, upstream.Count()-before, c.status, c.arrive, answer.Body)
			}
		})
	}
	first := upstream.Requests()[0]
	for name, want := range map[string]string{"x-api-key-id": "1", "x-api-key-owner": "alice", "api-key": ""} {
		if got := first.Header(name); got != want {
			t.Errorf("the upstream sees %s %q, want %q", name, got, want)
		}
	}
	// However a slash is escaped, no path leads past the admin API.
	for _, path := range []string{"..%2f..%2f..%2fapi/tokens/", "..%5c..%5c..%5capi/tokens/", "..%252f..%252f", "/../../../api/tokens/", ";/../../../../api/tokens/"} {
		before := upstream.Count()
		if answer := Do(t, http.MethodGet, front.URL+envoy.AdminPrefix+path); answer.Status < 300 || upstream.Count() != before {
			t.Errorf("%s: status %d and %d requests upstream", path, answer.Status, upstream.Count()-before)
		}
	}
	service.Stop(t)
	before := upstream.Count()
	if answer := Do(t, http.MethodGet, front.URL+"/api/tokens/", "Api-Key", open); answer.Status != http.StatusServiceUnavailable || upstream.Count() != before {
		t.Errorf("status %d without the service", answer.Status)
	}
}
