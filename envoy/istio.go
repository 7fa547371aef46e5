package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// istioProvider is what Istio's resources call the service.
const istioProvider = "tokenkit-authz"

const meshHeader = `What Istio's mesh configuration needs in order to ask tokenkit-authz: values of its Helm chart.
Written by "tokenkit-authz envoy istio --mesh-config"; change its flags rather than this file.`

const istioHeader = `A gateway of Istio that asks tokenkit-authz for keys.
Written by "tokenkit-authz envoy istio"; change its flags rather than this file.`

// RenderIstioMesh returns as YAML what Istio's mesh configuration needs, which
// defines the service for the whole mesh and asks nothing of it yet. An
// AccessLog is the one of all proxies of the mesh. Authz is the host and port
// of a Service; nil: [ClusterAuthz].
func RenderIstioMesh(o Options) ([]byte, error) {
	o, err := o.inCluster()
	if err != nil {
		return nil, err
	}
	authz, err := parseService(o.Authz[0])
	if err != nil {
		return nil, fmt.Errorf("envoy: option Authz: %w", err)
	}
	mesh := fields(
		field{"extensionProviders", []*yaml.Node{fields(
			field{"name", istioProvider},
			field{"envoyExtAuthzGrpc", fields(
				field{"service", authz.host},
				field{"port", authz.port},
				// MeshConfig is read as a protocol buffer, whose durations are in seconds.
				field{"timeout", fmt.Sprintf("%d.%03ds", o.AuthzTimeout/time.Second, o.AuthzTimeout/time.Millisecond%1000)},
				field{"failOpen", false},
				field{"statusOnError", "503"},
				field{"clearRouteCache", false},
			)},
		)}},
		field{"pathNormalization", fields(field{"normalization", "DECODE_AND_MERGE_SLASHES"})},
	)
	if o.AccessLog != "" {
		format, err := json.Marshal(accessLogFields())
		if err != nil {
			return nil, fmt.Errorf("encoding Istio configuration: %w", err)
		}
		mesh.Content = append(mesh.Content, fields(
			field{"accessLogFile", o.AccessLog},
			field{"accessLogEncoding", "JSON"},
			field{"accessLogFormat", string(format)},
		).Content...)
	}
	return encode(fields(field{"meshConfig", mesh}), meshHeader)
}

// RenderIstio returns as YAML the AuthorizationPolicy that makes a gateway ask
// the service about every request, but for those to the admin API and to public
// routes. So that pages can ask before they call, it lets preflights pass.
// Istio has no way to tell the service other rules of a route. An EnvoyFilter
// beside it refuses header names with underscores, which Istio lets through.
//
// Istio shows the service all headers and sets no header of its own to the
// client's address: the service needs --client-address forwarded:N, N being
// TrustedHops.
func RenderIstio(o Options) ([]byte, error) {
	o, err := o.inCluster()
	if err != nil {
		return nil, err
	}
	paths := []string{AdminPrefix + "*"}
	for _, r := range longestFirst(o.Routes) {
		if !r.Public {
			return nil, fmt.Errorf("envoy: option Routes: path %q: %w", r.Path, errors.New("expected a public route: Istio cannot tell the service other rules"))
		}
		paths = append(paths, istioPaths(r.Path)...)
	}
	where := field{"targetRefs", []*yaml.Node{gatewayRef(o.Kubernetes.Gateway)}}
	if len(o.Kubernetes.Workload) > 0 {
		where = field{"selector", fields(field{"matchLabels", o.Kubernetes.Workload})}
	}
	elsewhere := func(operation ...field) field {
		all := append([]field{{"notPaths", paths}}, operation...)
		return field{"to", []*yaml.Node{fields(field{"operation", fields(all...)})}}
	}
	absent := func(header string) field {
		return field{"when", []*yaml.Node{fields(field{"key", "request.headers[" + header + "]"}, field{"notValues", []string{"*"}})}}
	}
	rules := []*yaml.Node{
		fields(elsewhere(field{"notMethods", []string{"OPTIONS"}})),
		fields(elsewhere(), absent("origin")),
		fields(elsewhere(), absent("access-control-request-method")),
	}
	rules[0].HeadComment = "Everything is asked about but the admin API, what is public, and preflights: OPTIONS with both headers."
	policy := resource("security.istio.io/v1", "AuthorizationPolicy", o.Kubernetes.Namespace, istioProvider, "", fields(
		where,
		field{"action", "CUSTOM"},
		field{"provider", fields(field{"name", istioProvider})},
		field{"rules", rules},
	))
	return encodeAll([]*yaml.Node{policy, refuseUnderscores(&o)}, istioHeader)
}

// refuseUnderscores is the EnvoyFilter for which Istio has no setting.
func refuseUnderscores(o *Options) *yaml.Node {
	labels := o.Kubernetes.Workload
	if len(labels) == 0 { // as Istio labels the pods that it makes for a Gateway
		labels = map[string]string{"gateway.networking.k8s.io/gateway-name": o.Kubernetes.Gateway}
	}
	const manager = "envoy.filters.network.http_connection_manager"
	var patches []*yaml.Node
	for _, context := range []string{"GATEWAY", "SIDECAR_INBOUND"} {
		patches = append(patches, fields(
			field{"applyTo", "NETWORK_FILTER"},
			field{"match", fields(
				field{"context", context},
				field{"listener", fields(field{"filterChain", fields(field{"filter", fields(field{"name", manager})})})},
			)},
			field{"patch", fields(
				field{"operation", "MERGE"},
				field{"value", fields(field{"typed_config", fields(
					field{"@type", "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"},
					field{"common_http_protocol_options", fields(field{"headers_with_underscores_action", "REJECT_REQUEST"})},
				)})},
			)},
		))
	}
	return resource("networking.istio.io/v1alpha3", "EnvoyFilter", o.Kubernetes.Namespace, istioProvider,
		"Many servers read x_api_key_id as x-api-key-id.", fields(
			field{"workloadSelector", fields(field{"labels", labels})},
			field{"configPatches", patches},
		))
}

// istioPaths are the patterns for what a route's path matches.
func istioPaths(path string) []string {
	if strings.HasSuffix(path, "/") {
		return []string{path + "*"}
	}
	return []string{path, path + "/*"}
}

func gatewayRef(name string) *yaml.Node {
	return fields(field{"group", "gateway.networking.k8s.io"}, field{"kind", "Gateway"}, field{"name", name})
}
