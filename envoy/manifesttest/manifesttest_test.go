package manifesttest_test

import (
	"strings"
	"testing"

	"github.com/tokenkithq/authz/envoy/manifesttest"
)

const right = `apiVersion: v1
kind: Service
metadata: {name: a, namespace: b}
spec: {ports: [{port: 80}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: c}
spec: {action: CUSTOM, provider: {name: p}, rules: [{to: [{operation: {notPaths: [/x]}}]}]}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: d}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]
  extAuth: {timeout: 250ms, statusOnError: 503, grpc: {backendRefs: [{name: s, port: 9001}]}}
`

func TestRead(t *testing.T) {
	resources := manifesttest.Check(t, []byte(right))
	if len(resources) != 3 || resources[0].Kind != "Service" || resources[0].Namespace != "b" || resources[2].Name != "d" {
		t.Fatalf("got %+v", resources)
	}
	var reader manifesttest.Reader
	for _, c := range []struct{ name, old, new, want string }{
		{"an unknown field of a built-in resource", "{port: 80}", "{prot: 80}", `unknown field "prot"`},
		{"a wrong type of a built-in resource", "{port: 80}", "{port: http}", "Service a"},
		{"an unknown field of a custom resource", "notPaths", "exceptPaths", "exceptPaths"},
		{"an unknown value", "CUSTOM", "MAYBE", "action"},
		{"a pattern", "250ms", "a while", "timeout"},
		{"a status that is none", "503", "200", "statusOnError"},
		{"a port out of range", "port: 9001", "port: 90010", "port"},
		{"a missing field", "name: s, ", "", "name"},
		{"a field twice", "name: c", "name: c, name: d", `"name"`},
		{"an unknown field of the metadata", "{name: c}", "{name: c, nmespace: d}", "nmespace"},
		{"an unknown kind", "kind: AuthorizationPolicy", "kind: Nothing", "expected a kind whose schema is known"},
		{"another version", "security.istio.io/v1", "security.istio.io/v2", "expected a kind whose schema is known"},
		{"no name", "{name: d}", "{}", "metadata.name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resources, err := reader.Read([]byte(strings.Replace(right, c.old, c.new, 1)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if len(resources) > 2 {
				t.Errorf("all %d were read", len(resources))
			}
		})
	}
}
