package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// startUpstream serves at one address what an API may: gRPC, WebSockets, and
// uploads that are answered while they arrive.
func startUpstream(t *testing.T) string {
	t.Helper()
	calls := grpc.NewServer()
	healthpb.RegisterHealthServer(calls, health.NewServer())
	other := echo.Handler(nil)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
			calls.ServeHTTP(w, r)
		case r.URL.Path == "/upload":
			control := http.NewResponseController(w)
			_ = control.EnableFullDuplex()
			w.WriteHeader(http.StatusOK)
			_ = control.Flush()
			for lines := bufio.NewReader(r.Body); ; {
				line, err := lines.ReadString('\n')
				_, _ = io.WriteString(w, line)
				_ = control.Flush()
				if err != nil {
					return
				}
			}
		default:
			other.ServeHTTP(w, r)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: &http.Protocols{}}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// A client of gRPC, a WebSocket and an upload in pieces pass with a key, with
// TLS, and are told what is wrong in their own terms without one.
func TestProtocols(t *testing.T) {
	k := startStack(t, "--limit-status", "429", "--block-never", "127.0.0.1")
	certificate := envoytest.Certificate(t)
	front := envoytest.Start(t, envoy.Options{
		Authz: []string{k.grpc}, AdminAPI: k.admin, Upstream: startUpstream(t), UpstreamProtocol: envoy.SameAsClient,
		TLS: certificate.TLS, AuthzTimeout: 10 * time.Second,
	})
	open := k.createKey(t, `{"name": "open"}`).Key
	page := k.createKey(t, `{"name": "page", "allowed_ips": ["203.0.113.10"]}`).Key
	few := k.createKey(t, `{"name": "few", "rate_limit_per_hour": 1}`).Key

	t.Run("gRPC", func(t *testing.T) {
		connection, err := grpc.NewClient(front.Address, grpc.WithTransportCredentials(credentials.NewTLS(certificate.Client)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = connection.Close() })
		client := healthpb.NewHealthClient(connection)
		for _, c := range []struct {
			name, key string
			code      codes.Code
			message   string
		}{
			{"with a key", open, codes.OK, ""},
			{"without a key", "", codes.Unauthenticated, "no API key"},
			{"with a wrong key", "tk_wrong", codes.Unauthenticated, "not valid"},
			{"from elsewhere", page, codes.PermissionDenied, "not allowed from this address"},
			{"the last call", few, codes.OK, ""},
			{"one call too many", few, codes.ResourceExhausted, "used up"},
		} {
			ctx := t.Context()
			if c.key != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "api-key", c.key)
			}
			_, err := client.Check(ctx, &healthpb.HealthCheckRequest{})
			if got := status.Convert(err); got.Code() != c.code || !strings.Contains(got.Message(), c.message) {
				t.Errorf("%s: %v %q, want %v %q", c.name, got.Code(), got.Message(), c.code, c.message)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		stream, err := client.Watch(metadata.AppendToOutgoingContext(ctx, "api-key", open), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := stream.Recv(); err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("a stream: %v, %v", answer, err)
		}
	})

	transport := &http.Transport{TLSClientConfig: certificate.Client.Clone(), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	for version, client := range map[string]*http.Client{
		"HTTP/2.0": {Transport: transport},
		"HTTP/1.1": {Transport: &http.Transport{TLSClientConfig: certificate.Client.Clone(), DisableKeepAlives: true}},
	} {
		t.Run("upload over "+version, func(t *testing.T) {
			for key, want := range map[string]int{open: http.StatusOK, "": http.StatusUnauthorized, page: http.StatusForbidden, few: http.StatusTooManyRequests} {
				body, pieces := io.Pipe()
				request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+front.Address+"/upload", body)
				if err != nil {
					t.Fatal(err)
				}
				if key != "" {
					request.Header.Set("Api-Key", key)
				}
				response, err := client.Do(request) // before anything was sent
				if err != nil {
					t.Fatal(err)
				}
				if response.StatusCode != want || response.Proto != version {
					t.Errorf("%s, status %d, want %d", response.Proto, response.StatusCode, want)
				}
				if want == http.StatusOK {
					answers := bufio.NewReader(response.Body)
					for _, piece := range []string{"one\n", "two\n"} {
						if _, err := io.WriteString(pieces, piece); err != nil {
							t.Fatal(err)
						}
						if got, err := answers.ReadString('\n'); err != nil || got != piece {
							t.Errorf("after %q: %q, %v", piece, got, err)
						}
					}
				}
				_ = pieces.Close()
				_ = response.Body.Close()
			}
		})
	}

	t.Run("WebSocket", func(t *testing.T) {
		for key, want := range map[string]int{open: http.StatusSwitchingProtocols, "": http.StatusUnauthorized, few: http.StatusTooManyRequests} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+front.Address+"/socket", nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
				request.Header.Set(name, value)
			}
			if key != "" {
				request.Header.Set("Api-Key", key)
			}
			response, err := (&http.Transport{TLSClientConfig: certificate.Client.Clone()}).RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != want {
				t.Errorf("status %d, want %d", response.StatusCode, want)
			}
			if socket, ok := response.Body.(io.ReadWriter); ok && want == http.StatusSwitchingProtocols {
				answer := make([]byte, 5)
				if _, err := io.WriteString(socket, "hello"); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(socket, answer); err != nil || string(answer) != "hello" {
					t.Errorf("it answers %q, %v", answer, err)
				}
			}
			_ = response.Body.Close()
		}
	})
}
