package envoy_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	"pgregory.net/rapid"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/manifesttest"
)

// meshConfig reads what is rendered for Istio's Helm chart as Istio does.
func meshConfig(t testing.TB, values []byte) *meshv1alpha1.MeshConfig {
	t.Helper()
	var parts map[string]json.RawMessage
	if err := sigsyaml.UnmarshalStrict(values, &parts); err != nil {
		t.Fatal(err)
	}
	if len(parts) != 1 {
		t.Fatalf("there are %d values, want one", len(parts))
	}
	config := &meshv1alpha1.MeshConfig{}
	if err := protojson.Unmarshal(parts["meshConfig"], config); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestIstioMeshConfig(t *testing.T) {
	values, err := envoy.RenderIstioMesh(envoy.Options{AccessLog: "/dev/stdout"})
	if err != nil {
		t.Fatal(err)
	}
	config := meshConfig(t, values)
	provider := config.GetExtensionProviders()[0]
	check := provider.GetEnvoyExtAuthzGrpc()
	if provider.GetName() != "tokenkit-authz" || check.GetService() != "tokenkit-authz.tokenkit.svc.cluster.local" || check.GetPort() != 9001 ||
		check.GetTimeout().AsDuration() != 250*time.Millisecond || check.GetFailOpen() || check.GetStatusOnError() != "503" ||
		check.GetClearRouteCache() || check.GetIncludeRequestBodyInCheck() != nil {
		t.Errorf("the provider is %v", provider)
	}
	if got := config.GetPathNormalization().GetNormalization(); got != meshv1alpha1.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES {
		t.Errorf("paths are normalized as %v", got)
	}
	var format map[string]string
	if err := json.Unmarshal([]byte(config.GetAccessLogFormat()), &format); err != nil || !strings.Contains(format["key_id"], ":key_id)%") {
		t.Errorf("the access log is %q (%v)", config.GetAccessLogFormat(), err)
	}
}

// clusterOptions draws options that both meshes can be told.
func clusterOptions(t *rapid.T) envoy.Options {
	o := envoy.Options{
		AuthzTimeout:    time.Duration(rapid.IntRange(0, 200_000).Draw(t, "timeout")) * time.Millisecond,
		UpstreamTimeout: time.Duration(rapid.IntRange(-1, 1000).Draw(t, "upstream timeout")) * time.Second,
		Bearer:          rapid.Bool().Draw(t, "bearer"),
		Origins:         rapid.SampledFrom([][]string{nil, {"https://app.example.io", "http://localhost:3000"}}).Draw(t, "origins"),
		Authz:           rapid.SampledFrom([][]string{nil, {"a.b.svc:1"}, {"keys.default.svc.cluster.local:9001"}}).Draw(t, "authz"),
		Routes:          rapid.SampledFrom([][]envoy.Route{nil, {{Path: "/yes", Public: true}, {Path: "/no/x", Public: true}}}).Draw(t, "routes"),
		Kubernetes: envoy.Kubernetes{
			Namespace: rapid.SampledFrom([]string{"", "on", "tokenkit"}).Draw(t, "namespace"),
			Gateway:   rapid.SampledFrom([]string{"", "true"}).Draw(t, "gateway"),
			Workload:  rapid.SampledFrom([]map[string]string{nil, {"istio": "ingressgateway", "version": "1"}}).Draw(t, "workload"),
		},
	}
	return o
}

// Whatever is rendered, an API server would take it, and it fails closed.
func TestEveryMeshResource(t *testing.T) {
	var reader manifesttest.Reader
	rapid.Check(t, func(rt *rapid.T) {
		o := clusterOptions(rt)
		mesh, err := envoy.RenderIstioMesh(o)
		if err != nil {
			rt.Fatal(err)
		}
		meshConfig(t, mesh)
		istio, err := envoy.RenderIstio(o)
		if err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "rules") {
			o.Routes = []envoy.Route{{Path: "/a", Anonymous: true}, {Path: "/a/b", Scope: "true", Cost: 2}, {Path: "/c"}, {Path: "/d", Public: true}}
		}
		gateway, err := envoy.RenderGateway(o)
		if err != nil {
			rt.Fatal(err)
		}
		for _, manifests := range [][]byte{istio, gateway} {
			if _, err := reader.Read(manifests); err != nil {
				rt.Fatalf("%v\n%s", err, manifests)
			}
		}
		if n := strings.Count(string(gateway), "failOpen: false"); n == 0 || n != strings.Count(string(gateway), "statusOnError: 503") ||
			n != strings.Count(string(gateway), "  extAuth:\n") || strings.Count(string(istio), "action: CUSTOM\n") != 1 {
			rt.Fatalf("not every policy fails closed:\n%s", gateway)
		}
		again, err := envoy.RenderGateway(o)
		if err != nil || string(again) != string(gateway) {
			rt.Fatalf("it renders differently the second time (%v)", err)
		}
	})
}

func TestWrongMeshOptionsAreNamed(t *testing.T) {
	istio, mesh, gateway := envoy.RenderIstio, envoy.RenderIstioMesh, envoy.RenderGateway
	for _, c := range []struct {
		name   string
		render func(envoy.Options) ([]byte, error)
		o      envoy.Options
		want   string
	}{
		{"an address", mesh, envoy.Options{Authz: []string{"10.0.0.1:9001"}}, `option Authz: "10.0.0.1:9001": expected a Service`},
		{"a socket", mesh, envoy.Options{Authz: []string{"unix:/run/a.sock"}}, `option Authz: "unix:/run/a.sock"`},
		{"another host", gateway, envoy.Options{Upstream: "api.example.io:443"}, `option Upstream: "api.example.io:443": expected a Service`},
		{"an upper-case Service", gateway, envoy.Options{AdminAPI: "A.b.svc:1"}, `option AdminAPI: "A.b.svc:1": expected a Service`},
		{"two Services", istio, envoy.Options{Authz: []string{"a.b.svc:1", "c.b.svc:1"}}, `option Authz: expected one Service`},
		{"a rate limit", gateway, envoy.Options{RateLimit: envoy.RateLimit{Service: "a.b.svc:1"}}, `option RateLimit: expected none`},
		{"a rule Istio does not have", istio, envoy.Options{Routes: []envoy.Route{{Path: "/a", Scope: "b"}}}, `option Routes: path "/a": expected a public route`},
		{"a route of part of a segment", gateway, envoy.Options{Routes: []envoy.Route{{Path: "/a/", Public: true}}}, `option Routes: path "/a/": expected no slash at its end`},
		{"a namespace that is none", istio, envoy.Options{Kubernetes: envoy.Kubernetes{Namespace: "a b"}}, `option Kubernetes: namespace "a b"`},
		{"a gateway that is none", gateway, envoy.Options{Kubernetes: envoy.Kubernetes{Gateway: "a\nb"}}, `option Kubernetes: gateway "a\nb"`},
		{"a label without a name", istio, envoy.Options{Kubernetes: envoy.Kubernetes{Workload: map[string]string{"": "a"}}}, `option Kubernetes: workload: expected`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := c.render(c.o); err == nil || !strings.HasPrefix(err.Error(), "envoy: "+c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
