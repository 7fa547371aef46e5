// Package gateway_test keeps the example right: its file is what is rendered,
// an API server would take it, and the Envoy filter that Envoy Gateway makes of
// it works.
package gateway_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/envoy/manifesttest"
	"github.com/tokenkithq/authz/examples/exampletest"
)

var update = flag.Bool("update", false, "write tokenkit.yaml")

func TestFileIsTheRenderedOne(t *testing.T) {
	want, err := envoy.RenderGateway(envoy.Options{Routes: []envoy.Route{
		{Path: "/healthz", Public: true}, {Path: "/v1/reports", Scope: "reports:read", Cost: 10},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("tokenkit.yaml", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("tokenkit.yaml"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("tokenkit.yaml is not what is rendered (%v); run go test -update", err)
	}
}

// policySpec is as much of a SecurityPolicy as is rendered.
type policySpec struct {
	TargetRefs []struct{ Group, Kind, Name string }
	ExtAuth    *struct {
		GRPC struct {
			BackendRefs []struct {
				Name, Namespace string
				Port            int
			}
		}
		HeadersToExtAuth         []string
		Timeout                  string
		FailOpen, RecomputeRoute bool
		StatusOnError            int
		ContextExtensions        []struct{ Name, Type, Value string }
	}
	CORS          *struct{ AllowOrigins, AllowMethods, AllowHeaders, ExposeHeaders []string }
	Authorization *struct{ DefaultAction string }
}

type routeSpec struct {
	Rules []struct {
		Filters []struct {
			RequestHeaderModifier struct{ Remove []string }
		}
	}
}

// read returns the specs of the policies and routes, by name.
func read(t *testing.T) (policies map[string]policySpec, routes map[string]routeSpec) {
	t.Helper()
	text, err := os.ReadFile("tokenkit.yaml")
	if err != nil {
		t.Fatal(err)
	}
	policies, routes = map[string]policySpec{}, map[string]routeSpec{}
	for _, r := range manifesttest.Check(t, text) {
		object, _ := r.Object.(map[string]any)
		encoded, err := json.Marshal(object["spec"])
		if err != nil {
			t.Fatal(err)
		}
		var policy policySpec
		var route routeSpec
		switch r.Kind {
		case "SecurityPolicy":
			err = json.Unmarshal(encoded, &policy)
			policies[r.Name] = policy
		case "HTTPRoute":
			err = json.Unmarshal(encoded, &route)
			routes[r.Name] = route
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return policies, routes
}

// translate makes of the resources what Envoy Gateway makes of them: one
// ext_authz filter a policy, disabled but on the routes that the policy is for,
// and CORS before it. It may decide as long as a busy machine needs. After Envoy Gateway 1.9, internal/xds/translator
// (extauth.go, cors.go and the test data ext-auth and cors).
func translate(t *testing.T) exampletest.Mesh {
	t.Helper()
	policies, routes := read(t)
	policy := policies["tokenkit-authz"]
	check := policy.ExtAuth
	if len(policy.TargetRefs) != 1 || policy.TargetRefs[0].Kind != "Gateway" || check == nil {
		t.Fatalf("the policy of the Gateway is %+v", policy)
	}
	if admin := policies["tokenkit-admin-api"]; admin.ExtAuth != nil || admin.Authorization == nil || admin.Authorization.DefaultAction != "Allow" {
		t.Fatalf("the policy of the admin API is %+v", admin)
	}
	backend := check.GRPC.BackendRefs[0]
	name := "envoy.filters.http.ext_authz/securitypolicy/default/tokenkit-authz"
	cluster := "securitypolicy/default/tokenkit-authz/" + backend.Namespace + "/" + backend.Name
	var shown strings.Builder
	for _, header := range check.HeadersToExtAuth {
		fmt.Fprintf(&shown, "{exact: %q, ignore_case: true}, ", header)
	}
	if !slices.Equal(policy.CORS.AllowOrigins, []string{"*"}) {
		t.Fatalf("origins that are not translated here: %v", policy.CORS.AllowOrigins)
	}
	return exampletest.Mesh{
		Cluster: cluster,
		Manager: "use_remote_address: true\nnormalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT\n" +
			"common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}\n",
		Filters: fmt.Sprintf(`- name: envoy.filters.http.cors
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
- name: %s
  disabled: true
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
    transport_api_version: V3
    failure_mode_allow: %v
    clear_route_cache: %v
    status_on_error: {code: %d}
    allowed_headers: {patterns: [%s]}
    grpc_service:
      envoy_grpc: {cluster_name: %s, authority: "%s.%s:%d"}
      timeout: 10s
`, name, check.FailOpen, check.RecomputeRoute, check.StatusOnError, shown.String(), cluster, backend.Name, backend.Namespace, backend.Port),
		Policy: fmt.Sprintf(`%s:
  "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
  check_settings: {}
envoy.filters.http.cors:
  "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
  allow_origin_string_match: [{safe_regex: {regex: ".*"}}]
  allow_methods: %q
  allow_headers: %q
  expose_headers: %q
  forward_not_matching_preflights: true
`, name, strings.Join(policy.CORS.AllowMethods, ", "), strings.Join(policy.CORS.AllowHeaders, ", "), strings.Join(policy.CORS.ExposeHeaders, ", ")),
		RemoveOnAdmin: routes["tokenkit-admin-api"].Rules[0].Filters[0].RequestHeaderModifier.Remove,
	}
}

func TestWhatEnvoyGatewayMakesOfItWorks(t *testing.T) {
	envoytest.Require(t)
	translate(t).Try(t, true)
}

// Routes with rules repeat what the Gateway's policy says, which theirs
// replaces.
func TestRoutesRepeatThePolicy(t *testing.T) {
	policies, routes := read(t)
	whole, scoped, public := policies["tokenkit-authz"], policies["tokenkit-route-1"], policies["tokenkit-route-2"]
	if got := fmt.Sprint(scoped.ExtAuth.ContextExtensions); got != "[{tokenkit.scope Value reports:read} {tokenkit.cost Value 10}]" {
		t.Errorf("the service is told %s", got)
	}
	scoped.ExtAuth.ContextExtensions, scoped.TargetRefs = nil, whole.TargetRefs
	one, _ := json.Marshal(whole)
	other, _ := json.Marshal(scoped)
	if !bytes.Equal(one, other) {
		t.Errorf("the policies differ in more than that:\n%s\n%s", one, other)
	}
	if public.ExtAuth != nil || public.Authorization.DefaultAction != "Allow" || len(routes["tokenkit-route-2"].Rules[0].Filters) != 1 {
		t.Errorf("the public route has %+v", public)
	}
	if len(routes["tokenkit-api"].Rules[0].Filters) > 0 {
		t.Error("the identity of keys is removed on the way to the API")
	}
}
