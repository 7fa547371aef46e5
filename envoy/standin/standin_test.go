package standin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"go.uber.org/goleak"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/standin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is an authorization service that answers as it is told.
type script struct {
	authv3.UnimplementedAuthorizationServer
	mu     sync.Mutex
	answer func(context.Context) (*authv3.CheckResponse, error)
	asked  []*authv3.AttributeContext
}

func (s *script) Check(ctx context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	s.mu.Lock()
	s.asked = append(s.asked, request.GetAttributes())
	answer := s.answer
	s.mu.Unlock()
	return answer(ctx)
}

// bench is a stand-in between a scripted service and an echo.
type bench struct {
	*script
	front    string
	upstream *echo.Recorder
}

func newBench(t *testing.T, o envoy.Options) *bench {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{script: &script{}, upstream: echo.Start(t)}
	b.answers(allowed(&authv3.OkHttpResponse{}), nil)
	server := grpc.NewServer()
	authv3.RegisterAuthorizationServer(server, b.script)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	o.Listen, o.Authz = "127.0.0.1:0", []string{listener.Addr().String()}
	o.Upstream, o.AdminAPI = b.upstream.Address(), b.upstream.Address()
	if o.AuthzTimeout == 0 {
		o.AuthzTimeout = 10 * time.Second
	}
	proxy, err := standin.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	b.front = proxy.Address()
	return b
}

func (b *bench) answers(response *authv3.CheckResponse, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = func(context.Context) (*authv3.CheckResponse, error) { return response, err }
}

// send writes lines as a request and returns the answer and its body.
func (b *bench) send(t *testing.T, lines ...string) (*http.Response, string) {
	t.Helper()
	connection, err := net.Dial("tcp", b.front)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(connection, strings.Join(append(lines, "Host: api.example", "Connection: close", "", ""), "\r\n")); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func allowed(ok *authv3.OkHttpResponse) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &rpcstatus.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok}}
}

func header(name, value string, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: action}
}

func TestCheckIsWordedAsEnvoyDoes(t *testing.T) {
	b := newBench(t, envoy.Options{})
	b.send(t, "POST //a/./b?x=1 HTTP/1.1", "Api-Key: k1", "API-KEY: k2\xff", "Origin: https://a.example", "Cookie: secret=1", "X-Forwarded-For: 203.0.113.1", "Content-Length: 0")
	if len(b.asked) != 1 {
		t.Fatalf("asked %d times", len(b.asked))
	}
	a := b.asked[0]
	got := a.GetRequest().GetHttp()
	if got.GetMethod() != "POST" || got.GetPath() != "/a/b?x=1" || got.GetHost() != "api.example" || got.GetScheme() != "http" || got.GetProtocol() != "HTTP/1.1" || got.GetId() == "" {
		t.Errorf("got %v", got)
	}
	if source := a.GetSource().GetAddress().GetSocketAddress(); source.GetAddress() != "127.0.0.1" || source.GetPortValue() == 0 {
		t.Errorf("source %v", source)
	}
	if destination := a.GetDestination().GetAddress().GetSocketAddress(); fmt.Sprintf("%s:%d", destination.GetAddress(), destination.GetPortValue()) != b.front {
		t.Errorf("destination %v", destination)
	}
	want := map[string]string{"api-key": "k1,k2!", "origin": "https://a.example", "x-forwarded-for": "203.0.113.1,127.0.0.1", "x-client-ip": "127.0.0.1"}
	for name, value := range want {
		if got.GetHeaders()[name] != value {
			t.Errorf("header %s is %q, want %q", name, got.GetHeaders()[name], value)
		}
	}
	if len(got.GetHeaders()) != len(want) {
		t.Errorf("the service is shown %v", got.GetHeaders())
	}
}

func TestRawHeaders(t *testing.T) {
	b := newBench(t, envoy.Options{EncodeRawHeaders: true})
	b.send(t, "GET / HTTP/1.1", "api-key: k1", "api-key: k2\xff")
	got := b.asked[0].GetRequest().GetHttp()
	var keys []string
	for _, h := range got.GetHeaderMap().GetHeaders() {
		if h.GetKey() == "api-key" {
			keys = append(keys, string(h.GetRawValue()))
		}
	}
	if len(got.GetHeaders()) != 0 || len(keys) != 2 || keys[1] != "k2\xff" {
		t.Errorf("got %q and %v", keys, got.GetHeaders())
	}
}

func TestAllowedAnswersAreApplied(t *testing.T) {
	b := newBench(t, envoy.Options{})
	b.answers(allowed(&authv3.OkHttpResponse{
		Headers: []*corev3.HeaderValueOption{
			header("x-set", "true", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD),
			header("x-more", "2", corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD),
			header("x-absent", "2", corev3.HeaderValueOption_ADD_IF_ABSENT),
			header("x-exists", "2", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS),
		},
		HeadersToRemove:         []string{"api-key"},
		QueryParametersToRemove: []string{"key"},
		ResponseHeadersToAdd:    []*corev3.HeaderValueOption{header("ratelimit", "r", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)},
	}), nil)
	response, _ := b.send(t, "GET /a?x=%2F&key=k&y HTTP/1.1", "api-key: k", "x-set: forged", "x-set: forged", "x-more: 1", "x-absent: 1")
	seen := b.upstream.Requests()[0]
	for name, want := range map[string]string{"x-set": "true", "x-more": "1 | 2", "x-absent": "1", "x-exists": "", "api-key": ""} {
		if seen.Header(name) != want {
			t.Errorf("upstream sees %s %q, want %q", name, seen.Header(name), want)
		}
	}
	if seen.Path != "/a?x=%2F&y" || response.StatusCode != http.StatusOK || response.Header.Get("Ratelimit") != "r" {
		t.Errorf("path %q, %s %v", seen.Path, response.Status, response.Header)
	}
	if response.Header.Get("Server") != "stand-in-not-envoy" {
		t.Errorf("it calls itself %q", response.Header.Get("Server"))
	}
}

func TestDeniedAnswersAreApplied(t *testing.T) {
	denied := func(code int, body string) *authv3.CheckResponse {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode(code)}, Body: body,
			Headers: []*corev3.HeaderValueOption{header("content-type", "application/problem+json", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)},
		}}}
	}
	for _, c := range []struct {
		name   string
		answer *authv3.CheckResponse
		err    error
		status int
		body   string
	}{
		{"with a status", denied(401, `{"code":"x"}`), nil, 401, `{"code":"x"}`},
		{"without one", denied(0, "no"), nil, 403, "no"},
		{"without an answer", &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 16}}, nil, 403, ""},
		{"an error", nil, status.Error(codes.Unavailable, "secret cause"), 503, ""},
		{"an error that says OK in HTTP", denied(200, "x"), status.Error(codes.Internal, "x"), 503, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, envoy.Options{})
			b.answers(c.answer, c.err)
			response, body := b.send(t, "GET / HTTP/1.1")
			if response.StatusCode != c.status || body != c.body || b.upstream.Count() != 0 {
				t.Errorf("%d %q and %d requests upstream, want %d %q", response.StatusCode, body, b.upstream.Count(), c.status, c.body)
			}
		})
	}
}

// A service that does not answer in time is no decision.
func TestTimeoutIsUnavailable(t *testing.T) {
	b := newBench(t, envoy.Options{AuthzTimeout: 20 * time.Millisecond})
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	b.mu.Lock()
	b.answer = func(context.Context) (*authv3.CheckResponse, error) {
		<-release
		return allowed(&authv3.OkHttpResponse{}), nil
	}
	b.mu.Unlock()
	response, _ := b.send(t, "GET / HTTP/1.1")
	if response.StatusCode != http.StatusServiceUnavailable || b.upstream.Count() != 0 {
		t.Errorf("status %d and %d requests upstream", response.StatusCode, b.upstream.Count())
	}
}

func TestAdminPathsAreNotAskedAbout(t *testing.T) {
	b := newBench(t, envoy.Options{})
	b.answers(nil, status.Error(codes.Unavailable, "no"))
	for path, want := range map[string]int{
		"/api/users/auth/login/": 200, "//api/users/./auth/login": 200, "/api/users/%61uth/": 200,
		"/api/users/auth": 503, "/api/users/auth/..": 503, "/api/users/auth/..;/x": 503, "/api/users/auth/%2e%2E": 503, `/api/users/auth/..\`: 503,
		"/api/users/auth/..%2f": 400, "/api/users/auth/%5C": 400, "/api/users/auth/%00": 400, "/api/users/auth/#": 400,
	} {
		if response, _ := b.send(t, "GET "+path+" HTTP/1.1"); response.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, response.StatusCode, want)
		}
	}
}

func TestUpstreamThatIsGone(t *testing.T) {
	b := newBench(t, envoy.Options{})
	if err := b.upstream.Close(); err != nil {
		t.Fatal(err)
	}
	if response, _ := b.send(t, "GET / HTTP/1.1", "Origin: https://a.example"); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Access-Control-Allow-Origin") == "" {
		t.Errorf("got %s %v", response.Status, response.Header)
	}
}

func TestStartRefuses(t *testing.T) {
	for name, o := range map[string]envoy.Options{
		"two services":                {Authz: []string{"127.0.0.1:1", "127.0.0.1:2"}},
		"wrong option":                {Listen: "x"},
		"an address that is not ours": {Listen: "192.0.2.1:0"},
	} {
		if _, err := standin.Start(o); err == nil {
			t.Errorf("%s: it started", name)
		}
	}
}

// What only an Envoy does is refused rather than left out.
func TestOptionsOfEnvoyAloneAreRefused(t *testing.T) {
	for name, o := range map[string]envoy.Options{
		"routes":     {Routes: []envoy.Route{{Path: "/v1", Scope: "a"}}},
		"TLS":        {TLS: envoy.TLS{Certificate: "/c.pem", Key: "/k.pem"}},
		"rate limit": {RateLimit: envoy.RateLimit{Service: "127.0.0.1:1"}},
		"gRPC":       {UpstreamProtocol: envoy.HTTP2},
	} {
		if proxy, err := standin.Start(o); err == nil {
			t.Errorf("%s: it starts", name)
			_ = proxy.Close()
		}
	}
}
