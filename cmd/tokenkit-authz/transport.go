package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/tokenkithq/authz/internal/tlsfiles"
)

// What one peer may take of the service. Envoy's own limit on request headers
// is 60 KiB unless raised.
const (
	maxCheckBytes      = 256 << 10
	maxCheckHeaders    = 16 << 10 // of gRPC, without the request that is asked about
	maxChecksUnderWay  = 1000     // of one connection; Envoy opens another one
	helloTimeout       = 10 * time.Second
	idleTimeout        = 5 * time.Minute // Envoy's health checks come more often
	endOfConnection    = 30 * time.Second
	defaultConnections = 4096
)

// transportSettings are about who may connect, and how.
type transportSettings struct {
	grpcTLS, adminTLS    tlsSettings
	adminInsecure        bool
	grpcMaxConnections   int
	grpcMaxConnectionAge time.Duration
	httpMaxConnections   int
}

// tlsSettings are the files of one listener.
type tlsSettings struct {
	cert, key, clientCA string
	clientNames         []string
}

func (t *transportSettings) flags(f *pflag.FlagSet) {
	t.grpcTLS.flags(f, "grpc", "Check calls")
	t.adminTLS.flags(f, "admin", "the admin API")
	f.BoolVar(&t.adminInsecure, "admin-insecure", false, "let the admin API be on an address that is not loopback without TLS")
	f.IntVar(&t.grpcMaxConnections, "grpc-max-connections", defaultConnections, "how many connections for Check calls may be open, half of them from one address")
	f.DurationVar(&t.grpcMaxConnectionAge, "grpc-max-connection-age", time.Hour, "how old they may get before Envoy is asked to open new ones; 0: any age")
	f.IntVar(&t.httpMaxConnections, "http-max-connections", defaultConnections, "how many connections to the admin API, and to /metrics, may be open, half of them from one address")
}

func (t *tlsSettings) flags(f *pflag.FlagSet, prefix, of string) {
	f.StringVar(&t.cert, prefix+"-tls-cert", "", "PEM file with the certificate for "+of+", reloaded when it changes; empty: no TLS")
	f.StringVar(&t.key, prefix+"-tls-key", "", "PEM file with its private key")
	f.StringVar(&t.clientCA, prefix+"-tls-client-ca", "", "PEM file with the authorities whose certificates clients must show; empty: they show none")
	f.StringSliceVar(&t.clientNames, prefix+"-tls-client-names", nil, "DNS names, IP addresses and URIs of which a client's certificate must have one; empty: any")
}

func (t *tlsSettings) none() bool {
	return t.cert == "" && t.key == "" && t.clientCA == "" && len(t.clientNames) == 0
}

func (t *tlsSettings) options() tlsfiles.Options {
	return tlsfiles.Options{Certificate: t.cert, Key: t.key, ClientCA: t.clientCA, ClientNames: t.clientNames}
}

// check reports the first setting that is wrong without opening anything.
func (t *transportSettings) check(adminListen string) error {
	for prefix, files := range map[string]*tlsSettings{"grpc": &t.grpcTLS, "admin": &t.adminTLS} {
		if files.none() {
			continue
		}
		if err := files.options().Validate(); err != nil {
			return fmt.Errorf("%s_tls_%w", prefix, err)
		}
	}
	if err := firstTooSmall(
		bounded{"grpc_max_connections", t.grpcMaxConnections > 0}, bounded{"http_max_connections", t.httpMaxConnections > 0},
	); err != nil {
		return err
	}
	if t.grpcMaxConnectionAge < 0 {
		return errors.New("grpc_max_connection_age: expected a time of 0 or more")
	}
	host, _, err := net.SplitHostPort(adminListen)
	if err != nil || adminListen == "" {
		return nil //nolint:nilerr // said elsewhere, or nothing to guard
	}
	// What a name stands for is known when it is listened on.
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && !addr.Unmap().IsLoopback() {
		return t.plainAdmin(adminListen)
	}
	return nil
}

// plainAdmin refuses an address that others can reach unless the admin API is
// encrypted there, or may do without.
func (t *transportSettings) plainAdmin(address string) error {
	if !t.adminTLS.none() || t.adminInsecure {
		return nil
	}
	return fmt.Errorf("admin_listen %q: expected a loopback address, since passwords and new keys would travel in plain text; "+
		"set admin_tls_cert and admin_tls_key, or admin_insecure where something else encrypts or nobody else can reach it", address)
}

// guard checks what is listened on, wherever the sockets come from.
func (t *transportSettings) guard(l listeners, logger *slog.Logger) error {
	if l.admin != nil && !isLoopback(l.admin.Addr()) {
		if err := t.plainAdmin(l.admin.Addr().String()); err != nil {
			return err
		}
	}
	if l.grpc != nil && t.grpcTLS.none() && !isLoopback(l.grpc.Addr()) {
		logger.Warn("Check calls, which carry keys, arrive without TLS: set grpc_tls_cert and grpc_tls_key unless the network is encrypted", "grpc", l.grpc.Addr().String())
	}
	return nil
}

func isLoopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// transport is the TLS of the listeners that have it.
type transport struct {
	grpc, admin *tlsfiles.Files // nil: none
}

func (t *transportSettings) open(logger *slog.Logger) (opened transport, err error) {
	for _, one := range []struct {
		prefix   string
		settings *tlsSettings
		protocol string
		files    **tlsfiles.Files
	}{
		{"grpc", &t.grpcTLS, "h2", &opened.grpc},
		{"admin", &t.adminTLS, "http/1.1", &opened.admin},
	} {
		if one.settings.none() {
			continue
		}
		options := one.settings.options()
		options.Protocols, options.Logger = []string{one.protocol}, logger.With("tls", one.prefix)
		if *one.files, err = tlsfiles.Open(options); err != nil {
			return opened, fmt.Errorf("%s_tls_%w", one.prefix, err)
		}
	}
	return opened, nil
}

// run reloads the files until ctx is done.
func (t *transport) run(ctx context.Context) error {
	var loops errgroup.Group
	for _, files := range []*tlsfiles.Files{t.grpc, t.admin} {
		if files != nil {
			loops.Go(func() error { return files.Run(ctx) })
		}
	}
	return loops.Wait()
}

// grpcOptions bound what one peer can take.
func (v *service) grpcOptions() []grpc.ServerOption {
	age := v.settings.transport.grpcMaxConnectionAge
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxCheckBytes),
		grpc.MaxHeaderListSize(maxCheckHeaders),
		// With it a stream that is reset still counts until its Check has ended.
		grpc.MaxConcurrentStreams(maxChecksUnderWay),
		grpc.ConnectionTimeout(helloTimeout),
		// Envoy may ping an idle connection as often as it is told to.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: time.Minute, Timeout: 20 * time.Second, MaxConnectionIdle: idleTimeout,
			// Zero is any age. A client whose certificate has expired, or is no longer allowed, is out by then.
			MaxConnectionAge: age, MaxConnectionAgeGrace: endOfConnection,
		}),
	}
	creds := insecure.NewCredentials()
	if v.transport.grpc != nil {
		creds = checkCredentials{
			TransportCredentials: credentials.NewTLS(v.transport.grpc.Config()), plain: creds, logger: v.logger,
		}
	}
	return append(options, grpc.Creds(pacedCredentials{creds, v.connections.streams}))
}

// checkCredentials is TLS over TCP, and none on a Unix socket, which its mode
// guards.
type checkCredentials struct {
	credentials.TransportCredentials
	plain  credentials.TransportCredentials
	logger *slog.Logger
}

func (c checkCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() == "unix" {
		return c.plain.ServerHandshake(conn)
	}
	encrypted, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		c.logger.Debug("TLS handshake failed", "from", conn.RemoteAddr().String(), "error", err)
	}
	return encrypted, info, err
}

func (c checkCredentials) Clone() credentials.TransportCredentials {
	return checkCredentials{c.TransportCredentials.Clone(), c.plain.Clone(), c.logger}
}

// serveHTTP serves with TLS where the server has a configuration for it.
func serveHTTP(server *http.Server, l net.Listener) error {
	serve := server.Serve
	if server.TLSConfig != nil {
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// encrypt makes a server speak TLS.
func (v *service) encrypt(server *http.Server, files *tlsfiles.Files) {
	if files == nil {
		return
	}
	server.TLSConfig = files.Config()
	server.ErrorLog = slog.NewLogLogger(quietHandshakes{v.logger.Handler()}, slog.LevelWarn)
}

// quietHandshakes lets failed handshakes, which anybody can cause, be logged as
// details only.
type quietHandshakes struct{ slog.Handler }

func (q quietHandshakes) Handle(ctx context.Context, record slog.Record) error {
	if strings.HasPrefix(record.Message, "http: TLS handshake error") {
		record.Level = slog.LevelDebug
		if !q.Enabled(ctx, record.Level) {
			return nil
		}
	}
	return q.Handler.Handle(ctx, record)
}

// adminURL is where the admin API is reached, as far as the settings say.
func (s *settings) adminURL() string {
	if s.publicURL != "" {
		return s.publicURL
	}
	if s.adminListen == "" {
		return ""
	}
	scheme := "http"
	if !s.transport.adminTLS.none() {
		scheme = "https"
	}
	return scheme + "://" + s.adminListen
}
