package doctor

import (
	"cmp"
	"strings"
	"time"
)

// maxTimeout is the longest that a Check may reasonably take.
const maxTimeout = time.Second

// authz examines an ext_authz filter.
func (e *examiner) authz(authz object, where string) {
	if authz.is("failure_mode_allow") {
		e.add(Danger, "failure-mode-allow", where, "while the service cannot be reached, every request passes", "Set failure_mode_allow: false.")
	}
	if authz["filter_enabled"] != nil {
		e.add(Danger, "filter-enabled", where, "the filter runs for a part of all requests only", "Remove filter_enabled.")
	}
	if authz["filter_enabled_metadata"] != nil {
		e.add(Danger, "filter-enabled", where, "the filter runs only where metadata says so", "Remove filter_enabled_metadata.")
	}
	if code := authz.at("status_on_error").text("code"); code != "ServiceUnavailable" {
		e.add(Warning, "status-on-error", where, "while the service cannot be reached, clients are told that their keys are refused",
			"Set status_on_error: {code: ServiceUnavailable}.")
	}
	if authz.is("clear_route_cache") {
		e.add(Warning, "clear-route-cache", where, "a decision may change the route after it was checked", "Set clear_route_cache: false.")
	}
	if authz["with_request_body"] != nil {
		e.add(Warning, "request-body", where, "request bodies are buffered and sent along, which no decision needs", "Remove with_request_body.")
	}
	if authz["http_service"] != nil {
		e.add(Danger, "http-service", where, "the filter speaks HTTP to the service, which answers gRPC only", "Use grpc_service.")
		return
	}
	e.service(authz.at("grpc_service"), where)
}

func (e *examiner) service(service object, where string) {
	timeout, err := time.ParseDuration(cmp.Or(service.text("timeout"), "none"))
	switch {
	case err != nil:
		e.add(Advice, "timeout", where, "a Check has the default time of 200 ms", "Set grpc_service.timeout: 0.25s.")
	case timeout > maxTimeout || timeout == 0:
		e.add(Warning, "timeout", where, "a Check may take "+quoted(service.text("timeout"))+", and its request waits for so long", "Set grpc_service.timeout: 0.25s.")
	}
	if policy := service.at("retry_policy"); policy != nil {
		for condition := range strings.SplitSeq(policy.text("retry_on"), ",") {
			switch strings.TrimSpace(condition) {
			case "connect-failure", "refused-stream":
			default:
				e.add(Warning, "retries", where, "a Check that is tried again may spend the key's limit twice: retry_on "+quoted(policy.text("retry_on")),
					"Set retry_on: connect-failure,refused-stream.")
			}
		}
	}
	name := service.at("envoy_grpc").text("cluster_name")
	if name == "" {
		return
	}
	cluster, found := e.clusters[name]
	if !found {
		e.add(Danger, "cluster", where, "its cluster "+quoted(name)+" does not exist", "Add the cluster.")
		return
	}
	e.cluster(cluster, "cluster "+name)
}

func (e *examiner) cluster(cluster object, where string) {
	options := cluster.at("typed_extension_protocol_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
	_, explicit := options.at("explicit_http_config")["http2_protocol_options"]
	_, old := cluster["http2_protocol_options"]
	if !explicit && !old {
		e.add(Danger, "http2", where, "it speaks HTTP/1.1, while gRPC needs HTTP/2: no Check arrives",
			"Set explicit_http_config.http2_protocol_options in its HttpProtocolOptions.")
	}
	if len(cluster.list("health_checks")) == 0 {
		e.add(Advice, "health-checks", where, "an instance that stops still gets Checks",
			"Add a grpc_health_check for envoy.service.auth.v3.Authorization.")
	}
}

// routes examines what routes say of ext_authz, and hosts whose last route
// does not match all.
func (e *examiner) routes(config *Config) {
	each(config.root, nil, func(part object, names []string) {
		where := "route " + strings.Join(names, " / ")
		for filter, rules := range part.at("typed_per_filter_config") {
			rule, ok := rules.(object)
			if !ok || !rule.is("disabled") {
				continue
			}
			_, override := rule.typed(typePerRoute)
			_, generic := rule.typed(typeFilter)
			if override || generic && strings.Contains(filter, "ext_authz") {
				e.add(Advice, "route-disabled", where, "its requests need no key", "Check that this is meant.")
			}
		}
		if part["domains"] == nil {
			return
		}
		routes := part.list("routes")
		if len(routes) == 0 {
			return
		}
		match := routes[len(routes)-1].at("match")
		if prefix := match.text("prefix"); prefix != "/" {
			e.add(Advice, "catch-all", "virtual host "+part.text("name"), "its last route does not match every path: what matches none is answered 404 without asking for a key", "That is safe; add a route for prefix / if such requests should count as attempts.")
		}
	})
}
