package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// heardSpan is a span with the service that tells of it.
type heardSpan struct {
	*tracepb.Span
	service string
}

func (s heardSpan) String() string {
	return fmt.Sprintf("%s: %s (%s) trace %x span %x parent %x", s.service, s.GetName(), s.GetKind(), s.GetTraceId(), s.GetSpanId(), s.GetParentSpanId())
}

// spans is a collector of them.
type spans struct {
	collector.UnimplementedTraceServiceServer
	heard chan heardSpan
}

func (c spans) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, resource := range request.GetResourceSpans() {
		service := ""
		for _, attribute := range resource.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				service = attribute.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.heard <- heardSpan{span, service}
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// traced adds to a bootstrap what makes Envoy tell a collector of all requests.
func traced(t *testing.T, bootstrap *bootstrapv3.Bootstrap, collectorAddress string) []byte {
	t.Helper()
	pack := func(message proto.Message) *anypb.Any {
		packed, err := anypb.New(message)
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	filter := bootstrap.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0]
	manager := &hcmv3.HttpConnectionManager{}
	if err := filter.GetTypedConfig().UnmarshalTo(manager); err != nil {
		t.Fatal(err)
	}
	manager.Tracing = &hcmv3.HttpConnectionManager_Tracing{Provider: &tracev3.Tracing_Http{
		Name: "envoy.tracers.opentelemetry",
		ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: pack(&tracev3.OpenTelemetryConfig{
			ServiceName: "front",
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "collector"}}},
		})},
	}}
	filter.GetTypedConfig().Value = pack(manager).GetValue()
	clusters := bootstrap.GetStaticResources().GetClusters()
	// One that speaks HTTP/2 to an address, as the service's does.
	authz := proto.CloneOf(clusters[slices.IndexFunc(clusters, func(c *clusterv3.Cluster) bool { return len(c.GetTypedExtensionProtocolOptions()) > 0 })])
	authz.Name, authz.HealthChecks, authz.LoadAssignment.ClusterName = "collector", nil, "collector"
	_, port, err := net.SplitHostPort(collectorAddress)
	if err != nil {
		t.Fatal(err)
	}
	number := uint32(0)
	if _, err := fmt.Sscan(port, &number); err != nil {
		t.Fatal(err)
	}
	socket := authz.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress()
	socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: number}
	clusters = append(clusters, authz)
	bootstrap.StaticResources.Clusters = clusters
	at, err := structpb.NewStruct(map[string]any{"tracing.opentelemetry.min_flush_spans": 1})
	if err != nil {
		t.Fatal(err)
	}
	bootstrap.LayeredRuntime = &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "at once", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: at},
	}}}
	config, err := protojson.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// One trace holds a request's span of Envoy, and the Check's below it.
func TestTraceThroughEnvoy(t *testing.T) {
	envoytest.Require(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := spans{heard: make(chan heardSpan, 100)}
	sink := grpc.NewServer()
	collector.RegisterTraceServiceServer(sink, heard)
	go func() { _ = sink.Serve(listener) }()
	t.Cleanup(sink.Stop)

	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--otlp-endpoint", "http://"+listener.Addr().String())
	bootstrap, err := envoy.Bootstrap(envoy.Options{
		Listen: "127.0.0.1:0", EnvoyAdmin: "127.0.0.1:0",
		Authz: []string{s.grpc}, AdminAPI: s.admin, Upstream: echo.Start(t).Address(), AuthzTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	front := envoytest.StartConfig(t, traced(t, bootstrap, listener.Addr().String()))
	response, err := http.Get(front.URL + "/api/tokens/")
	if err != nil || response.Body.Close() != nil || response.StatusCode != http.StatusUnauthorized {
		t.Fatalf("%v, %v", response, err)
	}
	s.stop(t) // which sends its spans
	var all []heardSpan
	find := func(wanted func(heardSpan) bool) (heardSpan, error) {
		for {
			if i := slices.IndexFunc(all, wanted); i >= 0 {
				return all[i], nil
			}
			select {
			case span := <-heard.heard:
				all = append(all, span)
			case <-time.After(30 * time.Second):
				return heardSpan{}, errors.New("it was not heard of")
			}
		}
	}
	check, err := find(func(s heardSpan) bool { return s.GetName() == "envoy.service.auth.v3.Authorization/Check" })
	if err != nil {
		t.Fatalf("the Check's span: %v; heard %v", err, all)
	}
	// Its ancestors are Envoy's, up to that of the request.
	for span := check; len(span.GetParentSpanId()) > 0; {
		parent, err := find(func(s heardSpan) bool { return string(s.GetSpanId()) == string(span.GetParentSpanId()) })
		if err != nil {
			t.Fatalf("the parent of %v: %v; heard %v", span, err, all)
		}
		if parent.service != "front" || string(parent.GetTraceId()) != string(check.GetTraceId()) {
			t.Errorf("%v is the parent of %v", parent, span)
		}
		span = parent
	}
	if request, err := find(func(s heardSpan) bool {
		return s.service == "front" && s.GetKind() == tracepb.Span_SPAN_KIND_SERVER
	}); err != nil || len(request.GetParentSpanId()) > 0 || string(request.GetTraceId()) != string(check.GetTraceId()) || request.service == check.service {
		t.Errorf("the request's span is %v, %v; heard %v", request, err, all)
	}
	if len(check.GetParentSpanId()) == 0 {
		t.Errorf("%v has no parent", check)
	}
}

// A line of the decision log and one of Envoy's access log are of one request
// where they have one id, which is Envoy's.
func TestLogsAreJoined(t *testing.T) {
	envoytest.Require(t)
	path := filepath.Join(t.TempDir(), "decisions.log")
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--decision-log", path)
	front := envoytest.Start(t, envoy.Options{
		Authz: []string{s.grpc}, AdminAPI: s.admin, Upstream: echo.Start(t).Address(), AuthzTimeout: 10 * time.Second,
		RequestID: true, AccessLog: "/dev/stdout",
	})
	for _, path := range []string{"/a", "/b"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Request-Id", "made-up")
		response, err := http.DefaultClient.Do(request)
		if err != nil || response.Body.Close() != nil || response.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%v, %v", response, err)
		}
	}
	s.stop(t)
	if err := front.Stop(); err != nil {
		t.Fatal(err)
	}
	decisions, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ids := func(log string) map[string]string { // by path
		byPath := map[string]string{}
		for line := range strings.Lines(log) {
			var entry struct {
				Path string
				ID   string `json:"request_id"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Path != "" {
				byPath[entry.Path] = entry.ID
			}
		}
		return byPath
	}
	asked, answered := ids(string(decisions)), ids(front.Log())
	for _, path := range []string{"/a", "/b"} {
		if id := asked[path]; id == "" || id == "made-up" || id != answered[path] {
			t.Errorf("%s: the decision log has the id %q, the access log %q", path, id, answered[path])
		}
	}
	if asked["/a"] == asked["/b"] {
		t.Error("two requests have one id")
	}
}
