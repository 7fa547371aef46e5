package extauthz

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tokenkithq/authz/apikey"
)

// dial serves g on loopback and connects to it.
func dial(t testing.TB, g *grpc.Server, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

// newCodecBench is a server with two good keys that blocks nobody.
func newCodecBench(t testing.TB) *bench {
	t.Helper()
	b := newBench(t, Options{Sources: CredentialSources{Headers: []string{"api-key"}, QueryParameter: "key", Bearer: true}}, AuthorizerOptions{Uncounted: CountedReasons()})
	keys := keyMap{keys: map[apikey.Hash]*apikey.Key{}}
	keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "one", OwnerName: "alice", RateLimitPerHour: 1_000_000_000})
	keys.add(t, secretText(t, 2), apikey.Key{ID: 2, Name: strings.Repeat("é", 100)})
	b.authorizer.keys = lockedKeys{&sync.Mutex{}, &keys}
	b.authorizer.logger = slog.New(slog.DiscardHandler)
	b.authorizer.uses = nil
	return b
}

// A Check over the network is answered as one of the generated type is.
func TestGRPCServerAnswersAsCheck(t *testing.T) {
	b := newCodecBench(t)
	client := authv3.NewAuthorizationClient(dial(t, NewGRPCServer(b.Server)))
	for _, c := range []struct {
		name    string
		check   *authv3.CheckRequest
		options []grpc.CallOption
	}{
		{"nothing", &authv3.CheckRequest{}, nil},
		{"no key", checkOf(false, "192.0.2.1", "/"), nil},
		{"good", checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)}), nil},
		{"raw", checkOf(true, "192.0.2.1", "/", pair{"api-key", secretText(t, 2)}), nil},
		{"bearer", checkOf(false, "192.0.2.1", "/", pair{"authorization", "Bearer " + secretText(t, 1)}), nil},
		{"query", checkOf(false, "192.0.2.1", "/?key="+secretText(t, 2)), nil},
		{"unknown", checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 3)}), nil},
		{"several frames", checkOf(false, "192.0.2.1", "/"+strings.Repeat("p", 100_000), pair{"api-key", secretText(t, 1)}), nil},
		{"compressed", checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 2)}), []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.check.Attributes != nil {
				c.check.Attributes.ContextExtensions = map[string]string{ExplainExtension: "true"} // so that answers are alike
			}
			want := b.check(t, c.check)
			got, err := client.Check(t.Context(), c.check, c.options...)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

func TestGRPCServerRefusesWhatIsNoCheck(t *testing.T) {
	conn := dial(t, NewGRPCServer(newCodecBench(t).Server), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	var answer []byte
	err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, []byte{0x0a, 0x80}, &answer)
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "wire format") {
		t.Errorf("got %v", err)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*(v.(*[]byte)) = data.Materialize()
	return nil
}

// A fault is a gRPC error over the network too.
func TestGRPCServerFaults(t *testing.T) {
	b := newCodecBench(t)
	b.authorizer.keys = &keyMap{err: context.DeadlineExceeded}
	client := authv3.NewAuthorizationClient(dial(t, NewGRPCServer(b.Server)))
	response, err := client.Check(t.Context(), checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)}))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, %v", response, err)
	}
}

// Other services work beside Checks, with interceptors and stats handlers,
// which are shown no key.
func TestGRPCServerWithOthers(t *testing.T) {
	var seen strings.Builder
	sizes := payloads{}
	b := newCodecBench(t)
	g := NewGRPCServer(b.Server, grpc.StatsHandler(&sizes), grpc.ChainUnaryInterceptor(
		func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			response, err := handler(ctx, request)
			fmt.Fprintf(&seen, "%s %v %+v\n", info.FullMethod, request, response)
			return response, err
		}))
	healthpb.RegisterHealthServer(g, health.NewServer())
	conn := dial(t, g)
	r, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v", r, err)
	}
	check := checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 2)})
	response, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), check)
	if err != nil || response.GetOkResponse() == nil {
		t.Errorf("got %v, %v", response, err)
	}
	g.GracefulStop()
	const want = authv3.Authorization_Check_FullMethodName + " [CheckRequest] [CheckResponse]\n"
	if !strings.Contains(seen.String(), want) || strings.Contains(seen.String(), secretText(t, 2)[5:15]) {
		t.Errorf("the interceptor saw\n%s", seen.String())
	}
	if sizes.in != proto.Size(check) || sizes.out != proto.Size(response) {
		t.Errorf("the stats handler saw %d and %d bytes, want %d and %d", sizes.in, sizes.out, proto.Size(check), proto.Size(response))
	}
}

// payloads remembers the sizes of the last messages.
type payloads struct{ in, out int }

func (*payloads) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*payloads) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*payloads) HandleConn(context.Context, stats.ConnStats)                       {}
func (p *payloads) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		p.in = s.Length
	case *stats.OutPayload:
		p.out = s.Length
	}
}

// Buffers are used again, but never while somebody reads them.
func TestGRPCServerMixesNothing(t *testing.T) {
	b := newCodecBench(t)
	client := authv3.NewAuthorizationClient(dial(t, NewGRPCServer(b.Server, grpc.NumStreamWorkers(2))))
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := range 100 {
				key := byte(1 + (worker+n)%3)
				response, err := client.Check(t.Context(), checkOf(n%2 == 0, "192.0.2.1", strings.Repeat("/", 1+n*50), pair{"api-key", secretText(t, key)}))
				if err != nil {
					t.Error(err)
					return
				}
				id := response.GetDynamicMetadata().GetFields()[MetadataKeyID].GetStringValue()
				want := map[byte]string{1: "1", 2: "2", 3: ""}[key]
				if id != want || headerOf(response.GetOkResponse().GetHeaders(), "x-api-key-id") != want {
					t.Errorf("got the answer to another Check: %v", response)
				}
			}
		})
	}
	wg.Wait()
}

// What was read of a Check stays as it is when the next one is read.
func TestWireReaderCopies(t *testing.T) {
	b := newCodecBench(t)
	check := &wireCheck{server: b.Server}
	wire := wireOf(t, checkOf(true, "192.0.2.1", "/path", pair{"api-key", secretText(t, 1)}))
	if err := check.unmarshal(wire); err != nil {
		t.Fatal(err)
	}
	request, _ := b.parser.parse(&check.view)
	clear(wire)
	if err := check.unmarshal(wireOf(t, checkOf(true, "192.0.2.2", "/other", pair{"api-key", secretText(t, 2)}))); err != nil {
		t.Fatal(err)
	}
	secret, err := request.Credential.Secret()
	if err != nil || secret.Reveal() != secretText(t, 1) {
		t.Errorf("the first Check's key changed: %v", err)
	}
}
