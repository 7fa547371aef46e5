package envoytest_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// careless lets everything pass and sets no header.
type careless struct {
	authv3.UnimplementedAuthorizationServer
	mu    sync.Mutex
	shown *authv3.AttributeContext_HttpRequest
}

func (c *careless) Check(_ context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = request.GetAttributes().GetRequest().GetHttp()
	return &authv3.CheckResponse{}, nil
}

// What the configuration alone holds, even for a service that is careless: it
// is shown no more than it decides by, and made-up identity headers are gone.
func TestFrontOfACarelessService(t *testing.T) {
	for _, raw := range []bool{false, true} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		service, server, healthy := &careless{}, grpc.NewServer(), health.NewServer()
		authv3.RegisterAuthorizationServer(server, service)
		healthy.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
		healthpb.RegisterHealthServer(server, healthy)
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		upstream := echo.Start(t)
		front := envoytest.Start(t, envoy.Options{Authz: []string{listener.Addr().String()}, Upstream: upstream.Address(), EncodeRawHeaders: raw})

		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/api/tokens/", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"X-Api-Key-Id", "X-Api-Key-Name", "X-Api-Key-Owner", "X-Api-Key-Metadata", "X-Client-Ip", "Api-Key", "Cookie", "Authorization", "Origin"} {
			request.Header.Set(name, "forged")
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK || upstream.Count() != 1 {
			t.Fatalf("status %d", response.StatusCode)
		}
		seen := upstream.Requests()[0]
		for name, want := range map[string]string{"x-api-key-id": "", "x-api-key-name": "", "x-api-key-owner": "", "x-api-key-metadata": "", "x-client-ip": "127.0.0.1", "cookie": "forged"} {
			if got := seen.Header(name); got != want {
				t.Errorf("the upstream sees %s %q, want %q", name, got, want)
			}
		}
		shown := map[string]bool{}
		for name := range service.shown.GetHeaders() {
			shown[name] = true
		}
		if raw && len(shown) > 0 {
			t.Errorf("headers arrive joined: %v", shown)
		}
		for _, header := range service.shown.GetHeaderMap().GetHeaders() {
			shown[header.GetKey()] = true
		}
		for name, want := range map[string]bool{"api-key": true, "origin": true, "x-client-ip": true, "cookie": false, "authorization": false, "x-api-key-id": false} {
			if shown[name] != want {
				t.Errorf("raw %v: the service is shown %s: %v, want %v", raw, name, shown[name], want)
			}
		}
	}
}
