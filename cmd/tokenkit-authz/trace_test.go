package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// traceIDs are the traces that a collector hears of.
type traceIDs struct {
	collector.UnimplementedTraceServiceServer
	heard chan string
}

func (c traceIDs) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.heard <- fmt.Sprintf("%x", span.GetTraceId())
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// A Check's span is part of the trace that the call's metadata name.
func TestTraces(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := traceIDs{heard: make(chan string, 10)}
	sink := grpc.NewServer()
	collector.RegisterTraceServiceServer(sink, heard)
	go func() { _ = sink.Serve(listener) }()
	t.Cleanup(sink.Stop)

	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--otlp-endpoint", "http://"+listener.Addr().String())
	const trace = "0af7651916cd43dd8448eb211c80319c"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	if _, err := newGRPCClient(t, s).Check(ctx, (&checkRequest{method: "GET", path: "/"}).message("")); err != nil {
		t.Fatal(err)
	}
	// The request that message makes only asks for an explanation.
	request := (&checkRequest{method: "GET", path: "/"}).message("")
	request.Attributes.ContextExtensions = nil
	if _, err := newGRPCClient(t, s).Check(ctx, request); err != nil {
		t.Fatal(err)
	}
	s.stop(t)
	select {
	case got := <-heard.heard:
		if got != trace {
			t.Errorf("trace %s, want %s", got, trace)
		}
	case <-time.After(20 * time.Second):
		t.Error("no span")
	}
	if n := len(heard.heard); n > 0 {
		t.Errorf("%d spans too many", n)
	}
}

// The services describe themselves only where they are told to.
func TestReflection(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want codes.Code
	}{
		{"off", nil, codes.Unimplemented},
		{"on", []string{"--grpc-reflection"}, codes.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t, filepath.Join(t.TempDir(), "data"), c.args...)
			conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // nothing was written
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil && !errors.Is(err, io.EOF) { // Recv says why it ended
				t.Fatal(err)
			}
			answer, err := stream.Recv()
			if status.Code(err) != c.want {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			var names []string
			for _, service := range answer.GetListServicesResponse().GetService() {
				names = append(names, service.GetName())
			}
			if c.want == codes.OK && !slices.Contains(names, "envoy.service.auth.v3.Authorization") {
				t.Errorf("services %q", names)
			}
		})
	}
}
