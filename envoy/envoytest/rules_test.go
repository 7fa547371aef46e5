package envoytest_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// witness lets everything pass, as the key 7 where a key is sent, and notes
// what it is told of the route. As a rate limit service it allows two calls.
type witness struct {
	authv3.UnimplementedAuthorizationServer
	ratelimitv3.UnimplementedRateLimitServiceServer
	mu     sync.Mutex
	told   []map[string]string
	asked  []string
	broken bool // as a rate limit service
}

func (w *witness) Check(_ context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, request.GetAttributes().GetContextExtensions())
	response := &authv3.CheckResponse{}
	if request.GetAttributes().GetRequest().GetHttp().GetHeaders()["api-key"] != "" {
		response.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{"key_id": structpb.NewStringValue("7")}}
	}
	return response, nil
}

func (w *witness) ShouldRateLimit(_ context.Context, request *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return nil, context.DeadlineExceeded
	}
	for _, descriptor := range request.GetDescriptors() {
		for _, entry := range descriptor.GetEntries() {
			w.asked = append(w.asked, fmt.Sprintf("%s %s=%s", request.GetDomain(), entry.GetKey(), entry.GetValue()))
		}
	}
	code := ratelimitv3.RateLimitResponse_OK
	if len(w.asked) > 2 {
		code = ratelimitv3.RateLimitResponse_OVER_LIMIT
	}
	return &ratelimitv3.RateLimitResponse{OverallCode: code}, nil
}

func startWitness(t *testing.T) (*witness, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w, server, healthy := &witness{}, grpc.NewServer(), health.NewServer()
	authv3.RegisterAuthorizationServer(server, w)
	ratelimitv3.RegisterRateLimitServiceServer(server, w)
	healthy.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, healthy)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return w, listener.Addr().String()
}

func get(t *testing.T, url, key string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		request.Header.Set("Api-Key", key)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// The service is told the rules of the route that a path takes, however the
// path is written.
func TestRoutesTellTheirRules(t *testing.T) {
	w, address := startWitness(t)
	upstream := echo.Start(t)
	front := envoytest.Start(t, envoy.Options{Authz: []string{address}, Upstream: upstream.Address(), Routes: []envoy.Route{
		{Path: "/v1/reports", Scope: "reports:read", Cost: 10}, {Path: "/v1/reports/public", Public: true},
		{Path: "/open/", Anonymous: true}, {Path: "/v1/reports/public/not", Cost: 2},
	}})
	const reports, none = "map[tokenkit.cost:10 tokenkit.scope:reports:read]", "map[]"
	for _, c := range []struct{ path, told string }{
		{"/v1/reports", reports},
		{"/v1/reports/2026?q=/v1/reports/public", reports},
		{"/v1/%72eports/x", reports},
		{"/v1//reports/x", reports},
		{"/v1/x/../reports/", reports},
		{"/open/../v1/reports/x", reports},
		{"/v1/reports/public/../x", reports},
		{"/v1/reports/public/%2e%2e/x", reports},
		{"/v1/reports/publicity", reports},
		{"/v1/reports/public", "not asked"},
		{"/v1/reports/public/x", "not asked"},
		{"/v1/reports/public/not/", "map[tokenkit.cost:2]"},
		{"/open/", "map[tokenkit.anonymous:true]"},
		{"/open", none},
		{"/v1/reportsx", none},
		{"/", none},
	} {
		w.mu.Lock()
		w.told = nil
		w.mu.Unlock()
		before := upstream.Count()
		if status := get(t, front.URL+c.path, "a"); status != http.StatusOK || upstream.Count() != before+1 {
			t.Errorf("%s: status %d", c.path, status)
		}
		got := "not asked"
		w.mu.Lock()
		if len(w.told) > 0 {
			got = fmt.Sprint(w.told[0])
		}
		w.mu.Unlock()
		if got != c.told {
			t.Errorf("%s: the service is told %s, want %s", c.path, got, c.told)
		}
	}
	// An escaped slash may lead anywhere: it is refused before any route.
	for _, path := range []string{"/v1/reports/public/..%2fx", "/v1/reports/public/..%5cx"} {
		if status := get(t, front.URL+path, "a"); status != http.StatusBadRequest {
			t.Errorf("%s: status %d", path, status)
		}
	}
}

// The rate limit service is asked with the id of the key, and denies when it
// fails.
func TestRateLimitIsAskedByKey(t *testing.T) {
	w, address := startWitness(t)
	upstream := echo.Start(t)
	front := envoytest.Start(t, envoy.Options{
		Authz: []string{address}, Upstream: upstream.Address(), AdminAPI: upstream.Address(), RateLimit: envoy.RateLimit{Service: address, Domain: "api"},
		Routes: []envoy.Route{{Path: "/healthz", Public: true}},
	})
	for i, want := range []int{200, 200, 429} {
		if status := get(t, front.URL+"/", "a"); status != want {
			t.Errorf("call %d: status %d, want %d", i+1, status, want)
		}
	}
	w.mu.Lock()
	if want := []string{"api key_id=7", "api key_id=7", "api key_id=7"}; !slices.Equal(w.asked, want) {
		t.Errorf("it was asked about %q", w.asked)
	}
	w.broken = true
	w.mu.Unlock()
	for _, c := range []struct {
		path, key string
		status    int
	}{
		{"/", "a", http.StatusServiceUnavailable},
		{"/", "", http.StatusOK}, // no key, so nothing to ask about
		{"/healthz", "a", http.StatusOK},
		{envoy.AdminPrefix + "login/", "a", http.StatusOK},
	} {
		if status := get(t, front.URL+c.path, c.key); status != c.status {
			t.Errorf("%s with the key %q: status %d, want %d", c.path, c.key, status, c.status)
		}
	}
}
