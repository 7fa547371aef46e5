package envoy

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

const gatewayHeader = `A Gateway of Envoy Gateway that asks tokenkit-authz for keys.
Written by "tokenkit-authz envoy gateway"; change its flags rather than this file.`

const (
	gatewayAPI = "gateway.networking.k8s.io"
	policyAPI  = "gateway.envoyproxy.io"
)

// RenderGateway returns as YAML the resources that make a Gateway of Envoy
// Gateway ask the service about every request, whatever route it takes, but
// for those to the admin API and to public routes: SecurityPolicies, the routes
// they are for, and the leave to refer to Services in other namespaces. Authz,
// AdminAPI and Upstream are hosts and ports of Services; empty: [ClusterAuthz],
// [ClusterAdminAPI] and [ClusterUpstream].
//
// Envoy Gateway sets no header to the client's address: the service needs
// --client-address forwarded:N, N being TrustedHops.
func RenderGateway(o Options) ([]byte, error) {
	o, err := o.inCluster()
	if err != nil {
		return nil, err
	}
	g := &gateway{Options: o}
	for _, s := range []struct {
		option, target string
		service        *service
	}{
		{"Authz", o.Authz[0], &g.authz}, {"AdminAPI", o.AdminAPI, &g.adminAPI}, {"Upstream", o.Upstream, &g.upstream},
	} {
		if *s.service, err = parseService(s.target); err != nil {
			return nil, fmt.Errorf("envoy: option %s: %w", s.option, err)
		}
	}
	for _, r := range o.Routes {
		if strings.HasSuffix(r.Path, "/") {
			return nil, fmt.Errorf("envoy: option Routes: path %q: expected no slash at its end, since routes of a Gateway match whole segments", r.Path)
		}
	}
	return encodeAll(g.manifests(), gatewayHeader)
}

// gateway holds complete options and the Services they name.
type gateway struct {
	Options
	authz, adminAPI, upstream service
}

func (g *gateway) manifests() []*yaml.Node {
	all := []*yaml.Node{
		g.policy("tokenkit-authz", "Every route of the Gateway asks, also those that are added later.",
			gatewayRef(g.Kubernetes.Gateway), g.extAuth(nil)),
		g.route("tokenkit-admin-api", "The admin API checks sessions itself.", strings.TrimSuffix(AdminPrefix, "/"), &g.adminAPI, true),
		g.policy("tokenkit-admin-api", "", routeRef("tokenkit-admin-api"), open()),
	}
	for i, r := range longestFirst(g.Routes) {
		name := fmt.Sprintf("tokenkit-route-%d", i+1)
		all = append(all, g.route(name, "Requests that have rules of their own.", r.Path, &g.upstream, r.Public))
		switch extensions := r.extensions(); {
		case r.Public:
			all = append(all, g.policy(name, "", routeRef(name), append(open(), g.cors())))
		case len(extensions) > 0:
			all = append(all, g.policy(name, "A policy of a route takes the place of the Gateway's, whole.", routeRef(name), g.extAuth(extensions)))
		}
	}
	all = append(all, g.route("tokenkit-api", "The API to protect; have your own routes instead, if you like.", "/", &g.upstream, false))
	return append(all, g.grants()...)
}

// extAuth are the fields of a policy that asks.
func (g *gateway) extAuth(extensions map[string]string) []field {
	grpc := fields(field{"backendRefs", []*yaml.Node{g.backendRef(&g.authz)}})
	check := fields(
		field{"grpc", grpc},
		field{"headersToExtAuth", g.shown()},
		field{"timeout", gatewayDuration(g.AuthzTimeout)},
		field{"failOpen", false},
		field{"statusOnError", 503},
		field{"recomputeRoute", false},
	)
	if len(extensions) > 0 {
		var list []*yaml.Node
		for _, name := range []string{extensionScope, extensionCost, extensionAnonymous} {
			if value, found := extensions[name]; found {
				list = append(list, fields(field{"name", name}, field{"type", "Value"}, field{"value", value}))
			}
		}
		check.Content = append(check.Content, fields(field{"contextExtensions", list}).Content...)
	}
	return []field{{"extAuth", check}, g.cors()}
}

// shown are the headers that the service decides and answers by; there is no
// one that Envoy Gateway sets to the client's address.
func (g *gateway) shown() []string {
	var names []string
	for _, name := range g.CheckedHeaders() {
		if name != g.ClientAddressHeader {
			names = append(names, name)
		}
	}
	return names
}

// open are the fields of a policy that lets all pass. It takes the place of
// the Gateway's, which an empty policy may not.
func open() []field {
	return []field{{"authorization", fields(field{"defaultAction", "Allow"})}}
}

func (g *gateway) cors() field {
	origins := g.Origins
	if len(origins) == 0 {
		origins = []string{"*"}
	}
	return field{"cors", fields(
		field{"allowOrigins", origins},
		field{"allowMethods", strings.Split(CORSMethods, ", ")},
		field{"allowHeaders", CORSRequestHeaders(g.Options)},
		field{"exposeHeaders", strings.Split(CORSExposed, ", ")},
		field{"maxAge", CORSMaxAge + "s"},
	)}
}

func (g *gateway) policy(name, comment string, target *yaml.Node, spec []field) *yaml.Node {
	spec = append([]field{{"targetRefs", []*yaml.Node{target}}}, spec...)
	return resource(policyAPI+"/v1alpha1", "SecurityPolicy", g.Kubernetes.Namespace, name, comment, fields(spec...))
}

// route sends the requests below a path to a Service. Where nobody asks the
// service, identity headers that a client made up are removed.
func (g *gateway) route(name, comment, path string, to *service, unasked bool) *yaml.Node {
	rule := []field{
		{"matches", []*yaml.Node{fields(field{"path", fields(field{"type", "PathPrefix"}, field{"value", path})})}},
		{"backendRefs", []*yaml.Node{g.backendRef(to)}},
		{"timeouts", fields(field{"request", gatewayDuration(max(g.UpstreamTimeout, 0))})},
	}
	if unasked {
		rule = append(rule, field{"filters", []*yaml.Node{fields(
			field{"type", "RequestHeaderModifier"},
			field{"requestHeaderModifier", fields(field{"remove", g.Identity.Names()})},
		)}})
	}
	return resource(gatewayAPI+"/v1", "HTTPRoute", g.Kubernetes.Namespace, name, comment, fields(
		field{"parentRefs", []*yaml.Node{fields(field{"name", g.Kubernetes.Gateway})}},
		field{"rules", []*yaml.Node{fields(rule...)}},
	))
}

func routeRef(name string) *yaml.Node {
	return fields(field{"group", gatewayAPI}, field{"kind", "HTTPRoute"}, field{"name", name})
}

func (g *gateway) backendRef(s *service) *yaml.Node {
	all := []field{{"name", s.name}, {"port", s.port}}
	if s.namespace != g.Kubernetes.Namespace {
		all = append(all, field{"namespace", s.namespace})
	}
	return fields(all...)
}

// grants let the resources refer to Services in other namespaces.
func (g *gateway) grants() []*yaml.Node {
	from := func(group, kind string) *yaml.Node {
		return fields(field{"group", group}, field{"kind", kind}, field{"namespace", g.Kubernetes.Namespace})
	}
	var all []*yaml.Node
	done := map[string]bool{g.Kubernetes.Namespace: true}
	for _, s := range []*service{&g.authz, &g.adminAPI, &g.upstream} {
		if done[s.namespace] {
			continue
		}
		done[s.namespace] = true
		sources := []*yaml.Node{from(gatewayAPI, "HTTPRoute")}
		if s.namespace == g.authz.namespace {
			sources = append(sources, from(policyAPI, "SecurityPolicy"))
		}
		all = append(all, resource(gatewayAPI+"/v1beta1", "ReferenceGrant", s.namespace, "tokenkit-from-"+g.Kubernetes.Namespace,
			"Lets the above refer to Services of this namespace.", fields(
				field{"from", sources},
				field{"to", []*yaml.Node{fields(field{"group", ""}, field{"kind", "Service"})}},
			)))
	}
	return all
}
