// Package istio_test keeps the example right: its files are what is rendered,
// Istio would take them, and the Envoy filters that Istio makes of them work.
package istio_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	networkingv1alpha3 "istio.io/api/networking/v1alpha3"
	securityv1 "istio.io/api/security/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/envoy/manifesttest"
	"github.com/tokenkithq/authz/examples/exampletest"
)

var update = flag.Bool("update", false, "write the files")

func TestFilesAreTheRenderedOnes(t *testing.T) {
	for path, render := range map[string]func(envoy.Options) ([]byte, error){
		"values.yaml": envoy.RenderIstioMesh, "authorizationpolicy.yaml": envoy.RenderIstio,
	} {
		want, err := render(envoy.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is rendered (%v); run go test -update", path, err)
		}
	}
}

// provider reads values.yaml as Istio reads its mesh configuration.
func provider(t *testing.T) (*meshv1alpha1.MeshConfig, *meshv1alpha1.MeshConfig_ExtensionProvider) {
	t.Helper()
	text, err := os.ReadFile("values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		MeshConfig json.RawMessage `json:"meshConfig"`
	}
	if err := sigsyaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	config := &meshv1alpha1.MeshConfig{}
	if err := protojson.Unmarshal(values.MeshConfig, config); err != nil {
		t.Fatal(err)
	}
	return config, config.GetExtensionProviders()[0]
}

// policy reads authorizationpolicy.yaml.
func policy(t *testing.T) *securityv1.AuthorizationPolicy {
	t.Helper()
	text, err := os.ReadFile("authorizationpolicy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	resources := manifesttest.Check(t, text)
	if len(resources) != 2 || resources[1].Kind != "EnvoyFilter" {
		t.Fatalf("there are %d resources", len(resources))
	}
	spec, err := json.Marshal(resources[0].Object.(map[string]any)["spec"])
	if err != nil {
		t.Fatal(err)
	}
	read := &securityv1.AuthorizationPolicy{}
	if err := protojson.Unmarshal(spec, read); err != nil {
		t.Fatal(err)
	}
	return read
}

// translate makes of the files the filters that Istio makes of them: one of
// RBAC that only marks the requests which the rules match, and ext_authz for
// those that are marked. It may decide as long as a busy machine needs. After
// Istio 1.31, pilot/pkg/security/authz/builder and its test data for a gRPC
// provider (custom-grpc-provider); the path settings are those of
// pilot/pkg/networking/core for DECODE_AND_MERGE_SLASHES.
func translate(t *testing.T) exampletest.Mesh {
	t.Helper()
	config, provider := provider(t)
	policy := policy(t)
	if policy.GetAction() != securityv1.AuthorizationPolicy_CUSTOM || policy.GetProvider().GetName() != provider.GetName() {
		t.Fatalf("the policy asks %v by %v", policy.GetProvider(), policy.GetAction())
	}
	if got := config.GetPathNormalization().GetNormalization(); got != meshv1alpha1.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES {
		t.Fatalf("paths are normalized as %v", got)
	}
	var rules []string
	for i, rule := range policy.GetRules() {
		rules = append(rules, fmt.Sprintf(`"istio-ext-authz-%s-ns[default]-policy[tokenkit-authz]-rule[%d]": {permissions: [{and_rules: {rules: [%s]}}], principals: [{and_ids: {ids: [%s]}}]}`,
			provider.GetName(), i, permissions(t, rule), principals(t, rule)))
	}
	check := provider.GetEnvoyExtAuthzGrpc()
	cluster := fmt.Sprintf("outbound|%d||%s", check.GetPort(), check.GetService())
	return exampletest.Mesh{
		Cluster: cluster,
		Manager: "use_remote_address: true\nnormalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_FORWARD\n" + merged(t),
		Filters: fmt.Sprintf(`- name: envoy.filters.http.rbac
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
    shadow_rules_stat_prefix: istio_ext_authz_
    shadow_rules:
      action: DENY
      policies: {%s}
- name: envoy.filters.http.ext_authz
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
    transport_api_version: V3
    failure_mode_allow: %v
    clear_route_cache: %v
    status_on_error: {code: %s}
    filter_enabled_metadata:
      filter: envoy.filters.http.rbac
      path: [{key: istio_ext_authz_shadow_effective_policy_id}]
      value: {string_match: {prefix: istio-ext-authz}}
    grpc_service:
      envoy_grpc: {cluster_name: %q, authority: %q}
      timeout: 10s
`, strings.Join(rules, ", "), check.GetFailOpen(), check.GetClearRouteCache(), check.GetStatusOnError(),
			cluster, check.GetService()),
	}
}

// merged returns what the EnvoyFilter merges into the connection manager of a
// gateway.
func merged(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("authorizationpolicy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	filter := manifesttest.Check(t, text)[1].Object.(map[string]any)
	spec, err := json.Marshal(filter["spec"])
	if err != nil {
		t.Fatal(err)
	}
	read := &networkingv1alpha3.EnvoyFilter{}
	if err := protojson.Unmarshal(spec, read); err != nil {
		t.Fatal(err)
	}
	for _, patch := range read.GetConfigPatches() {
		if patch.GetMatch().GetContext() != networkingv1alpha3.EnvoyFilter_GATEWAY {
			continue
		}
		value := patch.GetPatch().GetValue().GetFields()["typed_config"].GetStructValue()
		delete(value.GetFields(), "@type")
		encoded, err := protojson.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		yaml, err := sigsyaml.JSONToYAML(encoded)
		if err != nil {
			t.Fatal(err)
		}
		return string(yaml)
	}
	t.Fatal("nothing is for gateways")
	return ""
}

// permissions translates what a rule says of operations.
func permissions(t *testing.T, rule *securityv1.Rule) string {
	t.Helper()
	if len(rule.GetTo()) != 1 || len(rule.GetFrom()) > 0 {
		t.Fatalf("a rule that is not translated here: %v", rule)
	}
	operation := rule.GetTo()[0].GetOperation()
	var all, paths, methods []string
	for _, path := range operation.GetNotPaths() {
		match := fmt.Sprintf("exact: %q", path)
		if prefix, found := strings.CutSuffix(path, "*"); found {
			match = fmt.Sprintf("prefix: %q", prefix)
		}
		paths = append(paths, "{url_path: {path: {"+match+"}}}")
	}
	for _, method := range operation.GetNotMethods() {
		methods = append(methods, fmt.Sprintf(`{header: {name: ":method", string_match: {exact: %q}}}`, method))
	}
	for _, list := range [][]string{paths, methods} {
		if len(list) > 0 {
			all = append(all, "{not_rule: {or_rules: {rules: ["+strings.Join(list, ", ")+"]}}}")
		}
	}
	return strings.Join(all, ", ")
}

// principals translates the conditions of a rule, all of which are about
// headers that are absent.
func principals(t *testing.T, rule *securityv1.Rule) string {
	t.Helper()
	all := []string{"{any: true}"}
	for _, condition := range rule.GetWhen() {
		name, found := strings.CutPrefix(condition.GetKey(), "request.headers[")
		if !found || len(condition.GetNotValues()) != 1 || condition.GetNotValues()[0] != "*" {
			t.Fatalf("a condition that is not translated here: %v", condition)
		}
		all = append(all, fmt.Sprintf("{not_id: {or_ids: {ids: [{header: {name: %q, present_match: true}}]}}}", strings.TrimSuffix(name, "]")))
	}
	return strings.Join(all, ", ")
}

func TestWhatIstioMakesOfItWorks(t *testing.T) {
	envoytest.Require(t)
	translate(t).Try(t, false)
}
