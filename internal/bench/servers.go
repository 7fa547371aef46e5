//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// listenAs opens the listener of a server and writes where it is reached.
func listenAs(out io.Writer, args []string) (net.Listener, error) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	socket := flags.String("socket", "", "Unix socket to listen on; empty: TCP")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	network, address := "tcp", "127.0.0.1:0"
	if *socket != "" {
		network, address = "unix", *socket
	}
	listener, err := net.Listen(network, address) //nolint:noctx // nothing to wait for
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(out, "address", listener.Addr())
	return listener, nil
}

// allowAll is an authorization service as it is usually begun: grpc-go with
// the generated types and its own settings. It decides nothing.
type allowAll struct {
	authv3.UnimplementedAuthorizationServer
}

func (allowAll) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &rpcstatus.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

func serveAllowAll(_ io.Reader, out io.Writer, args []string) error {
	listener, err := listenAs(out, args)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, allowAll{})
	healthy := health.NewServer()
	healthy.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, healthy)
	return server.Serve(listener)
}

// serveHTTPAuth allows all over HTTP/1.1, which Envoy can ask as well.
func serveHTTPAuth(_ io.Reader, out io.Writer, args []string) error {
	listener, err := listenAs(out, args)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		ReadHeaderTimeout: 10 * time.Second,
	}
	return server.Serve(listener)
}
