// Package envoy writes the configuration of an Envoy that puts tokenkit-authz
// in front of an API, and what Istio and Envoy Gateway need for the same.
//
// One [Options] says what differs between installations; its zero value is a
// working setup on one machine. [Render] returns the configuration as YAML to
// read and keep, [Bootstrap] the same as Envoy's own types:
//
//	config, err := envoy.Render(envoy.Options{Upstream: "10.0.0.5:8080"})
//	program, err := envoy.Find()
//	err = envoy.Validate(ctx, program, config)
//
// [RenderFilter] returns the parts for an Envoy that exists already,
// [RenderIstioMesh] and [RenderIstio] those for Istio, [RenderGateway] those for
// Envoy Gateway. Paths with rules of their own are [Options.Routes]:
//
//	o.Routes = []envoy.Route{{Path: "/healthz", Public: true}, {Path: "/v1/reports", Scope: "reports:read", Cost: 10}}
//
// Every configuration fails closed: a request that no decision was made on is
// answered with 503 and never reaches the upstream.
package envoy
