package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/extauthz"
)

// TracesOptions say where traces go.
type TracesOptions struct {
	// Endpoint is the URL of a collector that speaks OTLP over gRPC, such as
	// http://127.0.0.1:4317; with https the connection is encrypted. Empty:
	// what OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT
	// says. The other variables of OpenTelemetry are read as well:
	// OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS …
	Endpoint string
	// Version is the program's.
	Version string
	// Logger hears when sending begins to fail, and when it works again. Nil:
	// [slog.Default].
	Logger *slog.Logger
}

// Traces makes a span of each Check, as part of the trace that Envoy's
// traceparent names, if that is sampled. Spans are sent in the background; a
// collector that is slow or gone costs spans and no Check.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	sender   *spanSender
	// What the sampler says of every Check of a trace that is not sampled, and
	// of every one without a trace, is known beforehand: no.
	ignoreUnsampled, ignoreOrphans bool
	// orphans is the share of the Checks without a trace that begin one.
	orphans float64
}

var _ extauthz.Observer = (*Traces)(nil)

// NewTraces returns Traces, or an error that names the option or variable that
// is wrong. A collector that cannot be reached is none.
func NewTraces(ctx context.Context, o TracesOptions) (*Traces, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	var options []otlptracegrpc.Option
	if o.Endpoint != "" {
		if err := CheckEndpoint(o.Endpoint); err != nil {
			return nil, fmt.Errorf("traces: %w", err)
		}
		options = append(options, otlptracegrpc.WithEndpointURL(o.Endpoint))
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "tokenkit-authz"), attribute.String("service.version", o.Version)),
		resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	sender := &spanSender{SpanExporter: exporter, logger: o.Logger}
	providers := []sdktrace.TracerProviderOption{sdktrace.WithBatcher(sender), sdktrace.WithResource(about)}
	sampler, orphans := os.Getenv("OTEL_TRACES_SAMPLER"), 1.0
	if share, err := strconv.ParseFloat(os.Getenv("OTEL_TRACES_SAMPLER_ARG"), 64); err == nil && share >= 0 && share <= 1 && sampler == "parentbased_traceidratio" {
		// The library's makes a trace's id first, which costs a microsecond.
		orphans = share
		providers = append(providers, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	}
	provider := sdktrace.NewTracerProvider(providers...)
	return &Traces{
		orphans:  orphans,
		provider: provider, tracer: provider.Tracer("github.com/tokenkithq/authz"), sender: sender,
		ignoreUnsampled: sampler == "" || strings.HasPrefix(sampler, "parentbased_"),
		ignoreOrphans:   sampler == "parentbased_always_off",
	}, nil
}

// CheckEndpoint returns an error unless endpoint is the URL of a collector.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("endpoint %q: expected a URL such as http://127.0.0.1:4317", endpoint)
	}
	return nil
}

const checkMethod = "envoy.service.auth.v3.Authorization/Check"

// Checked implements [extauthz.Observer].
func (t *Traces) Checked(ctx context.Context, check extauthz.Checked) {
	parent := incoming{ctx}.Get("traceparent")
	if t.ignoreOrphans && parent == "" || t.ignoreUnsampled && unsampled(parent) {
		return
	}
	if parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, incoming{ctx})
	}
	if t.orphans < 1 && !trace.SpanContextFromContext(ctx).IsValid() && rand.Float64() >= t.orphans {
		return
	}
	_, span := t.tracer.Start(ctx, checkMethod, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(check.At))
	if !span.IsRecording() {
		return
	}
	attributes := make([]attribute.KeyValue, 0, 6)
	attributes = append(attributes,
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", checkMethod),
		attribute.String("rpc.response.status_code", status.Code(check.Err).String()))
	if check.Err == nil {
		result := "denied"
		if check.Allowed() {
			result = "allowed"
		}
		attributes = append(attributes, attribute.String("tokenkit.result", result), attribute.String("tokenkit.reason", check.Reason.String()))
	} else {
		span.SetStatus(otelcodes.Error, "no decision could be made")
	}
	if check.Key != nil {
		attributes = append(attributes, attribute.Int64("tokenkit.key_id", int64(check.Key.ID)))
	}
	span.SetAttributes(attributes...)
	span.End(trace.WithTimestamp(check.At.Add(check.Duration)))
}

// unsampled reports whether a traceparent (W3C Trace Context, version 00) says
// that its trace is not sampled.
func unsampled(parent string) bool {
	return len(parent) == 55 && strings.HasPrefix(parent, "00-") && strings.HasSuffix(parent, "-00")
}

// Close sends what is left, until ctx is done.
func (t *Traces) Close(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last traces: %w", err)
	}
	return nil
}

// TracesStats count spans since the start.
type TracesStats struct {
	Sent   uint64
	Failed uint64 // could not be sent
}

// Stats returns the present figures.
func (t *Traces) Stats() TracesStats {
	return TracesStats{Sent: t.sender.sent.Load(), Failed: t.sender.failed.Load()}
}

// incoming reads the metadata of a call, without copying all of it.
type incoming struct{ ctx context.Context } //nolint:containedctx // it lasts for one call

var _ propagation.TextMapCarrier = incoming{}

// Get returns the first value of a name.
func (c incoming) Get(name string) string {
	if values := metadata.ValueFromIncomingContext(c.ctx, name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set does nothing: what came in is not changed.
func (incoming) Set(string, string) {}

// Keys returns none: nobody looks for names that are not known.
func (incoming) Keys() []string { return nil }

// spanSender counts what is sent, and reports when that begins to fail. It is
// called by one goroutine at a time.
type spanSender struct {
	sdktrace.SpanExporter
	logger       *slog.Logger
	failing      bool
	sent, failed atomic.Uint64
}

// ExportSpans implements [sdktrace.SpanExporter].
func (s *spanSender) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := s.SpanExporter.ExportSpans(ctx, spans)
	n := uint64(len(spans))
	switch {
	case err == nil:
		s.sent.Add(n)
		if s.failing {
			s.logger.Info("traces are sent again", "lost", s.failed.Load())
		}
	default:
		s.failed.Add(n)
		if !s.failing {
			s.logger.Warn("traces cannot be sent", "error", err)
		}
	}
	s.failing = err != nil
	return nil // it is reported already
}
