//go:build linux

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// browserHeaders is about what a browser sends besides the key.
const browserHeaders = "Accept-Language: en-US,en;q=0.9,de;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Origin: https://app.example.io\r\nReferer: https://app.example.io/dashboard/tokens?page=2\r\n" +
	"Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: cross-site\r\nPriority: u=1, i\r\n" +
	"Sec-Ch-Ua: \"Chromium\";v=\"148\", \"Not.A/Brand\";v=\"24\"\r\nSec-Ch-Ua-Mobile: ?0\r\nSec-Ch-Ua-Platform: \"Linux\"\r\n" +
	"Cache-Control: no-cache\r\nPragma: no-cache\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n"

// study takes parts of the way from Envoy to a decision away, one at a time,
// and tries other ways. All of them are measured in a closed loop.
func (l *lab) study() error {
	keys, err := keyStoreOf(l.ctx, l.program, 1000, true)
	if err != nil {
		return err
	}
	socket := filepath.Join(l.dir, "grpc.sock")
	ours, err := l.serve(keys, 0, "--grpc-socket", socket)
	if err != nil {
		return err
	}
	allow, err := l.itself(0, roleAllowAll)
	if err != nil {
		return err
	}
	overHTTP, err := l.itself(0, roleHTTPAuth)
	if err != nil {
		return err
	}
	cases := studyRoutes(ours.address, allow.address, overHTTP.address, socket)
	if module, err := l.buildModule(); err == nil {
		cases = append(cases, studied{route: route{name: "a filter inside Envoy (C)", connections: instead("envoy.filters.http.dynamic_modules", module)}})
	} else if errors.Is(err, errNoCompiler) {
		l.print("NOT MEASURED: a filter inside Envoy: %v", err)
	} else {
		return err
	}
	var routes []route
	for _, c := range cases {
		routes = append(routes, c.route)
	}
	front, err := l.startEnvoy(routes...)
	if err != nil {
		return err
	}
	pids := map[studiedServer]int{atNone: 0, atOurs: ours.pid(), atAllowAll: allow.pid(), atHTTP: overHTTP.pid()}
	var lines []*line
	for _, c := range cases {
		lines = append(lines, &line{name: c.route.name, envoy: front.PID(), server: pids[c.server], job: load.Job{
			Address: front.addresses[c.route.name], Secrets: keys.secrets, Pick: load.Zipf, Header: c.header,
		}})
	}
	if err := l.inRounds(lines...); err != nil {
		return err
	}
	l.studyTable(lines)
	return nil
}

// studied is a route with what is sent to it and the server behind it.
type studied struct {
	route  route
	server studiedServer
	header string
}

type studiedServer int

const (
	atNone studiedServer = iota
	atOurs
	atAllowAll
	atHTTP
)

func studyRoutes(ours, allow, overHTTP, socket string) []studied {
	grpc := func(change func(*corev3.GrpcService)) func(*authzv3.ExtAuthz) {
		return func(c *authzv3.ExtAuthz) { change(c.GetGrpcService()) }
	}
	all := func(c *authzv3.ExtAuthz) { c.AllowedHeaders = nil }
	return []studied{
		{route: route{name: "no auth", connections: without(authzFilter)}},
		{route: route{name: "ext_authz, off on this route", authz: ours, connections: offOnRoutes}, server: atOurs},
		{route: route{name: "ext_authz, no service to call", authz: ours, filter: func(c *authzv3.ExtAuthz) { c.FailureModeAllow = true }, cluster: nobody}},
		{route: route{name: "as shipped", authz: ours}, server: atOurs},
		{route: route{name: "over a Unix socket", authz: "unix:" + socket}, server: atOurs},
		{route: route{name: "without retries", authz: ours, filter: grpc(func(s *corev3.GrpcService) { s.RetryPolicy = nil })}, server: atOurs},
		{route: route{name: "without a timeout", authz: ours, filter: grpc(func(s *corev3.GrpcService) { s.Timeout = nil })}, server: atOurs},
		{route: route{name: "without Envoy's own headers", authz: ours, filter: grpc(func(s *corev3.GrpcService) { s.GetEnvoyGrpc().SkipEnvoyHeaders = true })}, server: atOurs},
		{route: route{name: "without the header and CORS filters", authz: ours, connections: bare}, server: atOurs},
		{route: route{name: "browser, headers we ask for", authz: ours}, server: atOurs, header: browserHeaders},
		{route: route{name: "browser, all headers", authz: ours, filter: all}, server: atOurs, header: browserHeaders},
		{route: route{name: "allow-all", authz: allow}, server: atAllowAll},
		{route: route{name: "browser, all headers, allow-all", authz: allow, filter: all}, server: atAllowAll, header: browserHeaders},
		{route: route{name: "HTTP/1.1 to an allow-all server (net/http)", authz: overHTTP, filter: askOverHTTP(overHTTP), cluster: speakHTTP1}, server: atHTTP},
	}
}

// offOnRoutes leaves the filter in place and turns it off.
func offOnRoutes(m *hcmv3.HttpConnectionManager) error {
	off, err := anypb.New(&authzv3.ExtAuthzPerRoute{Override: &authzv3.ExtAuthzPerRoute_Disabled{Disabled: true}})
	if err != nil {
		return err
	}
	for _, r := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		if r.TypedPerFilterConfig == nil {
			r.TypedPerFilterConfig = make(map[string]*anypb.Any)
		}
		r.TypedPerFilterConfig[authzFilter] = off
	}
	return nil
}

// nobody takes all services from a cluster: calls fail before anything is sent.
func nobody(c *clusterv3.Cluster) {
	c.LoadAssignment.Endpoints, c.HealthChecks = nil, nil
}

// bare leaves nothing before ext_authz.
func bare(m *hcmv3.HttpConnectionManager) error {
	for _, name := range []string{"envoy.filters.http.header_mutation", "envoy.filters.http.cors"} {
		if err := without(name)(m); err != nil {
			return err
		}
	}
	for _, r := range m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() {
		delete(r.TypedPerFilterConfig, "envoy.filters.http.cors")
	}
	return nil
}

func askOverHTTP(address string) func(*authzv3.ExtAuthz) {
	return func(c *authzv3.ExtAuthz) {
		service := c.GetGrpcService()
		c.Services = &authzv3.ExtAuthz_HttpService{HttpService: &authzv3.HttpService{ServerUri: &corev3.HttpUri{
			Uri: "http://" + address, Timeout: service.GetTimeout(),
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: service.GetEnvoyGrpc().GetClusterName()},
		}}}
	}
}

func speakHTTP1(c *clusterv3.Cluster) {
	c.TypedExtensionProtocolOptions, c.HealthChecks = nil, nil
}

// studyTable prints what each case costs beside the first, which is no auth,
// and beside the way that is shipped.
func (l *lab) studyTable(lines []*line) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\trequests/s\tp50 µs\tEnvoy CPU µs (range)\tmore than no auth\tserver CPU µs")
	for _, at := range lines {
		cpu := at.of(envoyCPU)
		fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.1f (%.1f–%.1f)\t%+.1f\t", at.name, at.of(perSecond).median, at.of(p50).median,
			cpu.median, cpu.low, cpu.high, cpu.median-lines[0].of(envoyCPU).median)
		if at.server == 0 {
			fmt.Fprintln(w, "–")
			continue
		}
		fmt.Fprintf(w, "%.1f\n", at.of(serverCPU).median)
	}
	_ = w.Flush()
	l.print("%s", strings.TrimRight(text.String(), "\n"))
}
