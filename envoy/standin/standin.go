package standin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tokenkithq/authz/envoy"
)

// Notice says what this is, to be shown wherever one is started.
const Notice = "This is a built-in stand-in proxy, not Envoy: for trying things out only."

// serverName is the Server header of every answer, where Envoy says "envoy".
const serverName = "stand-in-not-envoy"

// maxHeaderBytes is Envoy's own limit on the headers of a request.
const maxHeaderBytes = 60 << 10

// Server is a running stand-in.
type Server struct {
	listener   net.Listener
	server     *http.Server
	connection *grpc.ClientConn
	transport  *http.Transport
	done       chan struct{}
}

// Start starts a stand-in that behaves as an Envoy with the configuration
// which o describes. It asks one authorization service only, has no admin
// interface and no access log, and refuses options for what it does not do.
func Start(o envoy.Options) (*Server, error) {
	o, err := o.Complete()
	if err != nil {
		return nil, err
	}
	if len(o.Authz) != 1 {
		return nil, fmt.Errorf("stand-in: Authz: expected one address, got %d", len(o.Authz))
	}
	if len(o.Routes) > 0 || o.TLS != (envoy.TLS{}) || o.RateLimit.Service != "" || o.UpstreamProtocol != envoy.HTTP1 {
		return nil, errors.New("stand-in: Routes, TLS, RateLimit, UpstreamProtocol: expected none, since only an Envoy has them")
	}
	connection, err := grpc.NewClient(target(o.Authz[0]), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("stand-in: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stand-in: %w", err), connection.Close())
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	s := &Server{
		listener: listener, connection: connection, transport: transport, done: make(chan struct{}),
		server: &http.Server{
			Handler: &handler{
				options: o, authz: authv3.NewAuthorizationClient(connection),
				admin: newUpstream(o.AdminAPI, transport), upstream: newUpstream(o.Upstream, transport),
			},
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       5 * time.Minute,
			MaxHeaderBytes:    maxHeaderBytes,
			// Envoy has no route for "OPTIONS *".
			DisableGeneralOptionsHandler: true,
			ErrorLog:                     slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		},
	}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(listener) // ends with Close
	}()
	return s, nil
}

// target words an address as gRPC does. The passthrough resolver leaves names
// to the dialer.
func target(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return address
	}
	return "passthrough:///" + address
}

// Address returns the host:port that the stand-in listens on.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close ends the stand-in and its connections.
func (s *Server) Close() error {
	err := s.server.Close()
	<-s.done
	s.transport.CloseIdleConnections()
	if err := errors.Join(err, s.connection.Close()); err != nil {
		return fmt.Errorf("ending the stand-in: %w", err)
	}
	return nil
}
