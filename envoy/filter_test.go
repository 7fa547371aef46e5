package envoy_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// existing is the Envoy of somebody who has none of this yet.
const existing = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: mine
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: mine
          route_config:
            virtual_hosts:
            - name: mine
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route: {cluster: upstream}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: upstream
    type: STATIC
    load_assignment:
      cluster_name: upstream
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}}]}]
`

// paste adds the parts to the existing configuration where their comments say.
func paste(t *testing.T, fragment []byte, existing string) []byte {
	t.Helper()
	var parts struct {
		Manager  map[string]any `yaml:"http_connection_manager"`
		Routes   []any
		Clusters []any
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(fragment)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&parts); err != nil {
		t.Fatal(err)
	}
	if len(parts.Manager) == 0 || len(parts.Routes) == 0 || len(parts.Clusters) == 0 {
		t.Fatal("a part is empty")
	}
	var whole map[string]any
	if err := yaml.Unmarshal([]byte(existing), &whole); err != nil {
		t.Fatal(err)
	}
	at := func(node any, path ...any) any {
		for _, step := range path {
			switch step := step.(type) {
			case string:
				node = node.(map[string]any)[step]
			case int:
				node = node.([]any)[step]
			}
		}
		return node
	}
	resources := whole["static_resources"].(map[string]any)
	resources["clusters"] = append(resources["clusters"].([]any), parts.Clusters...)
	manager := at(resources, "listeners", 0, "filter_chains", 0, "filters", 0, "typed_config").(map[string]any)
	for name, value := range parts.Manager {
		if name == "http_filters" {
			value = append(value.([]any), manager[name].([]any)...)
		}
		manager[name] = value
	}
	host := at(manager, "route_config", "virtual_hosts", 0).(map[string]any)
	host["routes"] = append(parts.Routes, host["routes"].([]any)...)
	pasted, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return pasted
}

func TestEnvoyAcceptsFilterFragments(t *testing.T) {
	program := envoytest.Require(t)
	for name, o := range map[string]envoy.Options{"defaults": {}, "everything": everything()} {
		t.Run(name, func(t *testing.T) {
			fragment, err := envoy.RenderFilter(o)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := envoy.RenderFilter(o); err != nil || string(again) != string(fragment) {
				t.Errorf("it renders differently the second time (%v)", err)
			}
			pasted := paste(t, fragment, existing)
			if _, err := envoy.Parse(pasted); err != nil {
				t.Fatal(err)
			}
			if err := envoy.Validate(t.Context(), program, pasted); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := envoy.RenderFilter(envoy.Options{TrustedHops: -1}); err == nil {
		t.Error("wrong options were accepted")
	}
}
