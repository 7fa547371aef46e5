package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz"
)

// collected is a collector that keeps spans, or refuses them.
type collected struct {
	collector.UnimplementedTraceServiceServer
	spans   chan *tracepb.ResourceSpans
	refuses error
}

func (c *collected) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	if c.refuses != nil {
		return nil, c.refuses
	}
	for _, spans := range request.GetResourceSpans() {
		c.spans <- spans
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// startCollector returns a collector and its endpoint.
func startCollector(t testing.TB, refuses error) (*collected, string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collected{spans: make(chan *tracepb.ResourceSpans, 100), refuses: refuses}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return c, "http://" + listener.Addr().String()
}

func newTraces(t testing.TB, o TracesOptions) *Traces {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	traces, err := NewTraces(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return traces
}

func describeSpan(s *tracepb.Span) string {
	attributes := map[string]string{}
	for _, a := range s.GetAttributes() {
		attributes[a.GetKey()] = a.GetValue().GetStringValue()
		if n := a.GetValue().GetIntValue(); n != 0 {
			attributes[a.GetKey()] = fmt.Sprint(n)
		}
	}
	text := fmt.Sprintf("%x %x %s", s.GetTraceId(), s.GetParentSpanId(), s.GetStatus().GetCode())
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		text += " " + name + "=" + attributes[name]
	}
	return text
}

const (
	traceID      = "0af7651916cd43dd8448eb211c80319c"
	parentID     = "b7ad6b7169203331"
	traceSampled = "00-" + traceID + "-" + parentID + "-01"
	traceIgnored = "00-" + traceID + "-" + parentID + "-00"
)

func withParent(ctx context.Context, parent string) context.Context {
	return metadata.NewIncomingContext(ctx, metadata.Pairs("traceparent", parent))
}

// A Check is a span of the trace that Envoy is in.
func TestTraces(t *testing.T) {
	c, endpoint := startCollector(t, nil)
	traces := newTraces(t, TracesOptions{Endpoint: endpoint, Version: "v1"})
	at := time.Unix(100, 5)
	ctx := withParent(t.Context(), traceSampled)
	key := &apikey.Key{ID: 7, Name: "named-web"}
	traces.Checked(ctx, extauthz.Checked{Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: apikey.ReasonScope, Key: key}, At: at}, Duration: time.Millisecond})
	traces.Checked(ctx, extauthz.Checked{Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: apikey.ReasonAnonymous}, At: at}})
	traces.Checked(ctx, extauthz.Checked{Outcome: extauthz.Outcome{At: at}, Err: status.Error(codes.Unavailable, "no")})
	traces.Checked(withParent(t.Context(), traceIgnored), decided(apikey.ReasonAllowed))
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := <-c.spans
	if text := got.String(); strings.Contains(text, "named-web") || !strings.Contains(text, `"tokenkit-authz"`) || !strings.Contains(text, `"v1"`) {
		t.Errorf("sent %s", text)
	}
	spans := got.GetScopeSpans()[0].GetSpans()
	const of = traceID + " " + parentID + " "
	const call = " rpc.method=envoy.service.auth.v3.Authorization/Check rpc.response.status_code="
	want := []string{
		of + "STATUS_CODE_UNSET" + call + "OK rpc.system.name=grpc tokenkit.key_id=7 tokenkit.reason=scope_not_allowed tokenkit.result=denied",
		of + "STATUS_CODE_UNSET" + call + "OK rpc.system.name=grpc tokenkit.reason=anonymous tokenkit.result=allowed",
		of + "STATUS_CODE_ERROR" + call + "Unavailable rpc.system.name=grpc",
	}
	if len(spans) != len(want) {
		t.Fatalf("%d spans, want %d", len(spans), len(want))
	}
	for i, span := range spans {
		if text := describeSpan(span); text != want[i] {
			t.Errorf("got  %s\nwant %s", text, want[i])
		}
	}
	if first := spans[0]; first.GetStartTimeUnixNano() != uint64(at.UnixNano()) || first.GetEndTimeUnixNano()-first.GetStartTimeUnixNano() != 1e6 || first.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("got %v", first)
	}
	if stats := traces.Stats(); stats != (TracesStats{Sent: 3}) {
		t.Errorf("stats %+v", stats)
	}
}

// Without a traceparent, or with one that makes no sense, a Check begins a
// trace.
func TestTracesBegin(t *testing.T) {
	c, endpoint := startCollector(t, nil)
	traces := newTraces(t, TracesOptions{Endpoint: endpoint})
	traces.Checked(t.Context(), decided(apikey.ReasonAllowed))
	traces.Checked(withParent(t.Context(), "nonsense"), decided(apikey.ReasonAllowed))
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := (<-c.spans).GetScopeSpans()[0].GetSpans()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	for _, span := range spans {
		if len(span.GetParentSpanId()) != 0 || len(span.GetTraceId()) != 16 {
			t.Errorf("got %v", span)
		}
	}
}

// OpenTelemetry's own variables hold.
func TestTracesByEnvironment(t *testing.T) {
	c, endpoint := startCollector(t, nil)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_SERVICE_NAME", "mine")
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	traces := newTraces(t, TracesOptions{})
	traces.Checked(t.Context(), decided(apikey.ReasonAllowed))
	traces.Checked(withParent(t.Context(), traceSampled), decided(apikey.ReasonAllowed))
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := <-c.spans
	if !traces.ignoreOrphans || !traces.ignoreUnsampled {
		t.Error("what is never sampled is looked at")
	}
	if !strings.Contains(got.GetResource().String(), `"mine"`) || len(got.GetScopeSpans()[0].GetSpans()) != 1 {
		t.Errorf("got %v", got)
	}
}

// A share of the Checks without a trace begin one; a trace that there is
// decides for itself.
func TestTracesOfAShare(t *testing.T) {
	c, endpoint := startCollector(t, nil)
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
	t.Setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
	traces := newTraces(t, TracesOptions{Endpoint: endpoint})
	const checks = 2000
	for range checks {
		traces.Checked(t.Context(), decided(apikey.ReasonAllowed))
		traces.Checked(withParent(t.Context(), "nonsense"), decided(apikey.ReasonAllowed))
		traces.Checked(withParent(t.Context(), traceIgnored), decided(apikey.ReasonAllowed))
	}
	for range 100 {
		traces.Checked(withParent(t.Context(), traceSampled), decided(apikey.ReasonAllowed))
	}
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	began, followed := 0, 0
	for len(c.spans) > 0 {
		for _, scope := range (<-c.spans).GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				if len(span.GetParentSpanId()) == 0 {
					began++
				} else {
					followed++
				}
			}
		}
	}
	// A tenth of 4,000 is 400, give or take 19; ten times that is never.
	if began < 210 || began > 590 || followed != 100 {
		t.Errorf("%d traces began and %d spans followed, expected about 400 and 100", began, followed)
	}
}

// Where the parent does not decide, Checks of traces that are not sampled are
// looked at too.
func TestTracesOfAll(t *testing.T) {
	c, endpoint := startCollector(t, nil)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	traces := newTraces(t, TracesOptions{Endpoint: endpoint})
	traces.Checked(withParent(t.Context(), traceIgnored), decided(apikey.ReasonAllowed))
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if spans := (<-c.spans).GetScopeSpans()[0].GetSpans(); len(spans) != 1 {
		t.Errorf("%d spans", len(spans))
	}
}

// A collector that refuses is reported once, and spans are counted.
func TestTracesRefused(t *testing.T) {
	_, endpoint := startCollector(t, status.Error(codes.PermissionDenied, "go away"))
	var logs bytes.Buffer
	traces := newTraces(t, TracesOptions{Endpoint: endpoint, Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	for range 2 {
		traces.Checked(t.Context(), decided(apikey.ReasonAllowed))
		if err := traces.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := traces.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stats := traces.Stats(); stats != (TracesStats{Failed: 2}) {
		t.Errorf("stats %+v", stats)
	}
	if n := strings.Count(logs.String(), "traces cannot be sent"); n != 1 {
		t.Errorf("reported %d times: %s", n, logs.String())
	}
}

func TestNewTracesNamesWhatIsWrong(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:4317", "ftp://127.0.0.1", "http://", "http://[", "collector"} {
		if _, err := NewTraces(t.Context(), TracesOptions{Endpoint: endpoint}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", endpoint)) {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func BenchmarkTraces(b *testing.B) {
	c, endpoint := startCollector(b, nil)
	go func() {
		for range c.spans {
		}
	}()
	traces := newTraces(b, TracesOptions{Endpoint: endpoint})
	for _, parent := range []string{traceIgnored, traceSampled} {
		b.Run(parent[len(parent)-2:], func(b *testing.B) {
			ctx, check := withParent(b.Context(), parent), decided(apikey.ReasonAllowed)
			b.ReportAllocs()
			for b.Loop() {
				traces.Checked(ctx, check)
			}
		})
	}
	_ = traces.Close(context.Background())
	b.Cleanup(func() { close(c.spans) })
}
