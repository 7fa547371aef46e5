package extauthz

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/limit"
)

// allowAll is an authorization service as it is usually begun. It decides
// nothing.
type allowAll struct {
	authv3.UnimplementedAuthorizationServer
}

func (allowAll) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{
		Status:       &rpcstatus.Status{},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}},
	}, nil
}

// serveBench serves what kind says until in ends: "allow-all" or "ours", with
// settings behind it, such as "ours,workers=4,gogc=800". It writes its address,
// and, for each line of in, its CPU time so far in nanoseconds.
func serveBench(kind string, in io.Reader, out io.Writer) error {
	name, settings, _ := strings.Cut(kind, ",")
	var options []grpc.ServerOption
	generated := name == "allow-all"
	for setting := range strings.SplitSeq(settings, ",") {
		what, value, _ := strings.Cut(setting, "=")
		n, err := strconv.Atoi(value)
		if err != nil && what != "" {
			return err
		}
		switch what {
		case "":
		case "generated":
			generated = n == 1
		case "gogc":
			debug.SetGCPercent(n)
		case "limit":
			debug.SetMemoryLimit(int64(n) << 20)
		case "workers":
			options = append(options, grpc.NumStreamWorkers(uint32(n)))
		case "write":
			options = append(options, grpc.WriteBufferSize(n<<10))
		case "read":
			options = append(options, grpc.ReadBufferSize(n<<10))
		case "window":
			options = append(options, grpc.StaticStreamWindowSize(int32(n)<<10), grpc.StaticConnWindowSize(int32(n)<<10))
		case "table":
			options = append(options, grpc.HeaderTableSize(uint32(n)))
		case "max":
			options = append(options, grpc.MaxConcurrentStreams(uint32(n)))
		default:
			return fmt.Errorf("setting %q is none", what)
		}
	}
	var g *grpc.Server
	switch {
	case name == "allow-all":
		g = grpc.NewServer(options...)
		authv3.RegisterAuthorizationServer(g, allowAll{})
	case name != "ours":
		return fmt.Errorf("server %q is none", name)
	default:
		server, err := newServed()
		if err != nil {
			return err
		}
		if generated {
			g = grpc.NewServer(options...)
			server.Register(g)
		} else {
			g = NewGRPCServer(server, options...)
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer g.Stop()
	go func() { _ = g.Serve(listener) }()
	fmt.Fprintln(out, listener.Addr())
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		spent, err := cpuTime()
		if err != nil {
			return err
		}
		fmt.Fprintln(out, spent.Nanoseconds())
	}
	return lines.Err()
}

// cpuTime returns what this process has spent.
func cpuTime() (time.Duration, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}

// benchSecret is the key of [envoyCheck].
func benchSecret() (apikey.Secret, error) {
	return apikey.NewSecret(strings.NewReader(strings.Repeat("s", 32)))
}

// oneKey finds one key.
type oneKey struct{ key *apikey.Key }

func (o oneKey) FindKey(_ context.Context, hash apikey.Hash) (*apikey.Key, error) {
	if hash != o.key.Hash {
		return nil, apikey.ErrNotFound
	}
	return o.key, nil
}

// newServed is a server that decides by every rule.
func newServed() (*Server, error) {
	secret, err := benchSecret()
	if err != nil {
		return nil, err
	}
	origin, err := apikey.ParseOriginPattern("https://app.example.io")
	if err != nil {
		return nil, err
	}
	limiter, err := limit.New(context.Background(), limit.Options{})
	if err != nil {
		return nil, err
	}
	table, err := block.New(context.Background(), block.Options{})
	if err != nil {
		return nil, err
	}
	authorizer, err := NewAuthorizer(AuthorizerOptions{
		Keys: oneKey{&apikey.Key{
			ID: 1, Hash: secret.Hash(), Name: "my-app-prod", OwnerName: "alice@example.io",
			AllowedOrigins: []apikey.OriginPattern{origin}, RateLimitPerHour: apikey.MaxRateLimit,
		}},
		Limiter: limiter, Blocker: table, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	return NewServer(authorizer, Options{})
}

// envoyCheck is a Check as Envoy sends it for a browser's request.
func envoyCheck(t testing.TB) *authv3.CheckRequest {
	t.Helper()
	secret, err := benchSecret()
	if err != nil {
		t.Fatal(err)
	}
	check := checkOf(false, "203.0.113.10", "/api/tokens/?common=true",
		pair{":authority", "api.example.io"}, pair{":method", "GET"}, pair{":path", "/api/tokens/?common=true"}, pair{":scheme", "https"},
		pair{"api-key", secret.Reveal()}, pair{"origin", "https://app.example.io"}, pair{"referer", "https://app.example.io/dashboard"},
		pair{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"},
		pair{"accept", "application/json, text/plain, */*"}, pair{"accept-encoding", "gzip, deflate, br, zstd"}, pair{"accept-language", "en-GB,en;q=0.9"},
		pair{"sec-fetch-dest", "empty"}, pair{"sec-fetch-mode", "cors"}, pair{"sec-fetch-site", "cross-site"},
		pair{"x-forwarded-for", "203.0.113.10"}, pair{"x-forwarded-proto", "https"}, pair{"x-request-id", "4ad0a2a3-5a0c-4b3e-9a57-0d5f6f1d2c3b"},
	)
	attributes := check.GetAttributes()
	attributes.Source.Address.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: 52100}
	attributes.Destination = &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "10.0.0.5", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 8443},
	}}}}
	attributes.Request.Time = timestamppb.New(time.Unix(1_790_000_000, 123_000_000))
	http := attributes.GetRequest().GetHttp()
	http.Id, http.Host, http.Scheme, http.Protocol = "15834593474939478", "api.example.io", "https", "HTTP/2"
	attributes.MetadataContext, attributes.RouteMetadataContext = &corev3.Metadata{}, &corev3.Metadata{}
	return check
}
