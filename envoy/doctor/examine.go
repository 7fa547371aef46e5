package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tokenkithq/authz/envoy"
)

// The types that are looked at.
const (
	typeManager  = ".HttpConnectionManager"
	typeAuthz    = ".ext_authz.v3.ExtAuthz"
	typePerRoute = ".ExtAuthzPerRoute"
	typeFilter   = ".route.v3.FilterConfig"
	typeMutation = ".header_mutation.v3.HeaderMutation"
)

// examiner gathers findings.
type examiner struct {
	options  Options
	clusters map[string]object
	findings []Finding
	streams  bool // a guarded listener may speak HTTP/2 or HTTP/3
}

// Examine returns what is unsafe or missing in a configuration, worst first.
func Examine(config *Config, o Options) []Finding {
	if o.Identity == nil {
		o.Identity = envoy.DefaultIdentity().Names()
	}
	e := &examiner{options: o, clusters: map[string]object{}}
	each(config.root, nil, func(part object, _ []string) {
		if name := part.text("name"); name != "" && (part["load_assignment"] != nil || part["connect_timeout"] != nil || part["eds_cluster_config"] != nil) {
			e.clusters[name] = part
		}
	})
	managers, guarded := 0, 0
	each(config.root, nil, func(part object, names []string) {
		if !strings.HasSuffix(part.text("@type"), typeManager) {
			return
		}
		managers++
		if e.manager(part, "listener "+cmp.Or(first(names), "without a name")) {
			guarded++
		}
	})
	switch {
	case managers == 0:
		e.add(Danger, "no-listener", "the configuration", "no HTTP connection manager was found", "Give a bootstrap, or the answer of /config_dump.")
	case guarded == 0:
		e.add(Danger, "no-ext-authz", "the configuration", "no listener asks for keys: there is no ext_authz filter", `Add what "tokenkit-authz envoy filter" prints.`)
	}
	e.runtime(config)
	e.routes(config)
	slices.SortStableFunc(e.findings, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return e.findings
}

func first(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

func (e *examiner) add(severity Severity, code, where, what, fix string) {
	finding := Finding{severity, code, where, what, fix}
	if !slices.Contains(e.findings, finding) {
		e.findings = append(e.findings, finding)
	}
}

// manager examines a connection manager and reports whether it asks for keys.
func (e *examiner) manager(manager object, where string) bool {
	filters := manager.list("http_filters")
	place := -1
	for i, filter := range filters {
		authz, found := filter.typed(typeAuthz)
		if !found {
			continue
		}
		place = i
		e.authz(authz, where+", filter "+filter.text("name"))
		if filter.is("disabled") {
			e.add(Danger, "disabled", where, "the ext_authz filter is disabled unless a route enables it", "Remove disabled: true.")
		}
	}
	if place < 0 {
		return false
	}
	if manager.text("codec_type") != "HTTP1" {
		e.streams = true
	}
	e.order(filters, place, where)
	e.forged(filters[:place], where)
	e.paths(manager, where)
	e.addresses(manager, where)
	return true
}

// order reports filters that must not stand on this side of ext_authz.
func (e *examiner) order(filters []object, place int, where string) {
	for i, filter := range filters {
		name := filter.text("name") + filter.at("typed_config").text("@type")
		switch {
		case i < place && (strings.Contains(name, "router") || strings.Contains(name, "ratelimit") || strings.Contains(name, "http.cache")):
			e.add(Danger, "order", where, filter.text("name")+" stands before ext_authz and sees requests without a key", "Move it behind ext_authz.")
		case i > place && strings.Contains(name, "cors"):
			e.add(Warning, "cors-order", where, "the CORS filter stands behind ext_authz: preflights carry no key and are denied", "Move envoy.filters.http.cors before ext_authz.")
		}
	}
}

// forged reports identity headers that a client can make up where ext_authz is
// not asked, and an address header that is not overwritten.
func (e *examiner) forged(before []object, where string) {
	removed, overwritten := map[string]bool{}, map[string]string{}
	for _, filter := range before {
		mutation, found := filter.typed(typeMutation)
		if !found {
			continue
		}
		for _, change := range mutation.at("mutations").list("request_mutations") {
			removed[strings.ToLower(change.text("remove"))] = true
			header := change.at("append", "header")
			if change.at("append").text("append_action") == "OVERWRITE_IF_EXISTS_OR_ADD" {
				overwritten[strings.ToLower(header.text("key"))] = header.text("value")
			}
		}
	}
	for _, name := range e.options.Identity {
		if !removed[name] {
			e.add(Warning, "identity", where, "a client's own "+name+" reaches the upstream on routes that ask for no key",
				"Remove it by a header_mutation filter before ext_authz.")
		}
	}
	if name := e.options.AddressHeader; name != "" {
		if value := overwritten[name]; value != "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" {
			e.add(Danger, "address-header", where, "a client can make up "+name+", which the service takes for its address",
				"Set it to %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% with OVERWRITE_IF_EXISTS_OR_ADD by a header_mutation filter before ext_authz.")
		}
	}
}

// paths reports what makes the path that is checked another than the upstream's.
func (e *examiner) paths(manager object, where string) {
	if !manager.is("normalize_path") {
		e.add(Danger, "normalize-path", where, "paths with dot segments are routed as they are", "Set normalize_path: true.")
	}
	if !manager.is("merge_slashes") {
		e.add(Warning, "merge-slashes", where, "doubled slashes may lead past a route's rules", "Set merge_slashes: true.")
	}
	switch manager.text("path_with_escaped_slashes_action") {
	case "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD":
	default:
		e.add(Warning, "escaped-slashes", where, "%2F and %5C are read differently by different servers", "Set path_with_escaped_slashes_action: REJECT_REQUEST.")
	}
	if manager.at("common_http_protocol_options").text("headers_with_underscores_action") != "REJECT_REQUEST" {
		e.add(Danger, "underscores", where, "a client can send x_api_key_id, which many servers read as x-api-key-id",
			"Set common_http_protocol_options.headers_with_underscores_action: REJECT_REQUEST.")
	}
}

// addresses reports what lets a client choose its address, or steer Envoy.
func (e *examiner) addresses(manager object, where string) {
	if !manager.is("use_remote_address") {
		e.add(Warning, "remote-address", where, "x-forwarded-for and x-envoy-external-address are believed as clients send them",
			"At the edge set use_remote_address: true, and xff_num_trusted_hops to the number of proxies before this Envoy.")
	}
	if len(manager.at("internal_address_config").list("cidr_ranges")) == 0 {
		e.add(Warning, "internal-addresses", where, "clients with a private address are internal: they may steer Envoy by x-envoy headers",
			"Set internal_address_config to your own networks, or to 0.0.0.0/32 for none.")
	}
}

// mostPerCycle is up to how many requests at a time are a bound.
const mostPerCycle = 100

// runtime reports what is missing among Envoy's switches, which hold for all
// listeners. Only a bootstrap tells them.
func (e *examiner) runtime(config *Config) {
	if !e.streams {
		return
	}
	found, bounded, elsewhere := false, false, false
	each(config.root, nil, func(part object, _ []string) {
		if part["static_resources"] == nil && part["layered_runtime"] == nil {
			return
		}
		found = true
		for _, layer := range part.at("layered_runtime").list("layers") { // a later one counts
			if layer["static_layer"] == nil {
				elsewhere = elsewhere || layer["admin_layer"] == nil // which is empty after a start
				continue
			}
			static := layer.at("static_layer")
			// One name, or a message within another.
			for _, written := range []any{static["http.max_requests_per_io_cycle"], static.at("http")["max_requests_per_io_cycle"]} {
				if value, err := strconv.ParseFloat(fmt.Sprint(written), 64); err == nil {
					bounded = 0 < value && value <= mostPerCycle
				}
			}
		}
	})
	if !found || bounded {
		return
	}
	severity := Warning
	if elsewhere {
		severity = Advice // it may stand in a layer that is not seen
	}
	e.add(severity, "reset-flood", "layered_runtime", "a client that opens streams and resets them at once keeps a worker from all others",
		"With Envoy 1.27.2 or later set http.max_requests_per_io_cycle: 3 in a static layer, and overload.premature_reset_total_stream_count: 30 to lose such clients sooner.")
}

func quoted(duration string) string { return fmt.Sprintf("%q", duration) }
