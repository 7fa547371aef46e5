package envoytest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// goodKey is the key that a doorkeeper lets pass.
const goodKey = "good"

// doorkeeper lets requests with the good key pass.
type doorkeeper struct {
	authv3.UnimplementedAuthorizationServer
}

func (doorkeeper) Check(_ context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	if request.GetAttributes().GetRequest().GetHttp().GetHeaders()["api-key"] == goodKey {
		return &authv3.CheckResponse{Status: &status.Status{}}, nil
	}
	return &authv3.CheckResponse{Status: &status.Status{Code: int32(codes.PermissionDenied)}}, nil
}

func startDoorkeeper(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, healthy := grpc.NewServer(), health.NewServer()
	authv3.RegisterAuthorizationServer(server, doorkeeper{})
	healthy.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, healthy)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// A request that hides another one, by where its body seems to end, brings none
// to the upstream that was not asked about.
func TestAttackHiddenRequest(t *testing.T) {
	upstream := echo.Start(t)
	front := envoytest.Start(t, envoy.Options{Authz: []string{startDoorkeeper(t)}, Upstream: upstream.Address()})
	const hidden = "GET /hidden-00 HTTP/1.1\r\nHost: api.example.io\r\n\r\n"
	const last = "GET /last HTTP/1.1\r\nHost: api.example.io\r\nConnection: close\r\n\r\n"
	length := len(hidden)
	for i, c := range []struct {
		name, headers, body string
		status              int  // of the first answer
		seen                bool // at the upstream
	}{
		{"none", "Content-Length: 0", hidden, 200, false},
		{"with a key of its own", "Content-Length: 0", strings.Replace(hidden, "\r\n", "\r\nApi-Key: "+goodKey+"\r\n", 1), 200, true},
		{"in a body", fmt.Sprint("Content-Length: ", length), hidden, 200, false},
		{"behind chunks", "Transfer-Encoding: chunked", "0\r\n\r\n" + hidden, 200, false},
		{"a length and chunks", fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked", length+5), "0\r\n\r\n" + hidden, 400, false},
		{"chunks and a length", fmt.Sprintf("Transfer-Encoding: chunked\r\nContent-Length: %d", length+5), "0\r\n\r\n" + hidden, 400, false},
		{"two lengths", fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d", length), hidden, 400, false},
		{"two lengths the other way", fmt.Sprintf("Content-Length: %d\r\nContent-Length: 0", length), hidden, 400, false},
		{"a list of lengths", fmt.Sprintf("Content-Length: 0, %d", length), hidden, 400, false},
		{"a signed length", fmt.Sprintf("Content-Length: +%d", length), hidden, 400, false},
		{"a hexadecimal length", fmt.Sprintf("Content-Length: %#x", length), hidden, 400, false},
		{"an unknown encoding", fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: xchunked", length), hidden, 400, false},
		{"chunked but last", "Transfer-Encoding: chunked, identity", "0\r\n\r\n" + hidden, 501, false},
		{"chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n" + hidden, 501, false},
		{"a space in the name", fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding : chunked", length+5), "0\r\n\r\n" + hidden, 400, false},
		{"a vertical tab", fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: \x0bchunked", length+5), "0\r\n\r\n" + hidden, 400, false},
		{"a folded header", fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding:\r\n chunked", length+5), "0\r\n\r\n" + hidden, 400, false},
		{"a bare line feed", fmt.Sprintf("Content-Length: %d\r\nX-A: b\nTransfer-Encoding: chunked", length+5), "0\r\n\r\n" + hidden, 400, false},
		{"a bare carriage return", fmt.Sprintf("X-A: b\rContent-Length: %d", length), hidden, 200, false},
		{"an extension of a chunk", "Transfer-Encoding: chunked", "1;a\nb\r\nx\r\n0\r\n\r\n" + hidden, 400, false},
		{"a size beyond all bounds", "Transfer-Encoding: chunked", "10000000000000000\r\n\r\n" + hidden, 400, false},
		{"trailers", "Transfer-Encoding: chunked", "0\r\nApi-Key: " + goodKey + "\r\n\r\n" + hidden, 200, false},
		{"HTTP/2 by an upgrade", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 0", hidden, 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // Envoy ends a connection a second after its last word
			path := fmt.Sprintf("/hidden-%02d", i)
			conn, err := net.Dial("tcp", strings.TrimPrefix(front.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // it has ended
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := fmt.Fprintf(conn, "POST /api/tokens/ HTTP/1.1\r\nHost: api.example.io\r\nApi-Key: %s\r\n%s\r\n\r\n%s", goodKey, c.headers, strings.ReplaceAll(c.body, "/hidden-00", path)+last); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			var status int
			if _, scanErr := fmt.Sscanf(string(answer), "HTTP/1.1 %d", &status); scanErr != nil || status != c.status {
				t.Errorf("answered %.60q, %v, want %d", answer, err, c.status)
			}
			seen := false
			for _, request := range upstream.Requests() {
				seen = seen || request.Path == path
			}
			if seen != c.seen {
				t.Errorf("the hidden request reached the upstream: %v, want %v; answered %s", seen, c.seen, answer)
			}
		})
	}
}
