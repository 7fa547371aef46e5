//go:build linux

package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"github.com/tokenkithq/authz/apikey"
)

func TestParseAnswer(t *testing.T) {
	tests := []struct {
		name, answer string
		status       int
		whole, bad   bool
	}{
		{name: "whole", answer: "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nserver: envoy\r\n\r\n{}\n", status: 200, whole: true},
		{name: "without a body", answer: "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", status: 403, whole: true},
		{name: "part of the head", answer: "HTTP/1.1 200 OK\r\ncontent-le"},
		{name: "part of the body", answer: "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{", status: 200},
		{name: "no length", answer: "HTTP/1.1 200 OK\r\nserver: envoy\r\n\r\n", bad: true},
		{name: "no status", answer: "HTTP/1.1 abc OK\r\ncontent-length: 3\r\n\r\n{}\n", bad: true},
		{name: "another protocol", answer: "SSH-2.0-OpenSSH_9.9p1\r\n\r\n", bad: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, whole, err := parseAnswer([]byte(test.answer))
			if (err != nil) != test.bad || whole != test.whole || err == nil && status != test.status {
				t.Errorf("got %d, %t, %v; want %d, %t, an error: %t", status, whole, err, test.status, test.whole, test.bad)
			}
		})
	}
}

// secretsFile returns the path of a file of n keys, and the keys.
func secretsFile(t *testing.T, n int) (string, []string) {
	t.Helper()
	k, err := newKeys(Job{Pick: Absent, Seed: 7}) // not those that are absent
	if err != nil {
		t.Fatal(err)
	}
	text := string(k.secrets[:n*apikey.SecretLength])
	path := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []string
	for ; text != ""; text = text[apikey.SecretLength:] {
		all = append(all, text[:apikey.SecretLength])
	}
	return path, all
}

// seen counts the keys that a server was shown.
type seen struct {
	mu   sync.Mutex
	keys map[string]int
}

func (s *seen) add(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[string]int)
	}
	s.keys[key]++
}

// startHTTP answers all requests with a status, spelt as Envoy does.
func startHTTP(t *testing.T, s *seen, status int) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.add(r.Header.Get("Api-Key"))
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for {
			fmt.Fprintf(out, "HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}", status)
			if out.Flush() != nil {
				return
			}
			r, err := http.ReadRequest(out.Reader)
			if err != nil {
				return
			}
			s.add(r.Header.Get("Api-Key"))
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

func TestHTTP(t *testing.T) {
	path, secrets := secretsFile(t, 50)
	for _, rate := range []float64{0, 500} {
		for _, pick := range []Pick{One, Zipf, Absent} {
			t.Run(fmt.Sprintf("%s at %v", pick, rate), func(t *testing.T) {
				var s seen
				result, err := Run(Job{
					Address: startHTTP(t, &s, 200), Connections: 4, Rate: rate, Secrets: path, Pick: pick,
					Warmup: 20 * time.Millisecond, Duration: 200 * time.Millisecond, PIDs: []int{os.Getpid()},
				})
				if err != nil {
					t.Fatal(err)
				}
				if result.Failed != 0 || result.Requests == 0 || result.Statuses[200] != result.Requests || result.P50 <= 0 || result.P99 < result.P50 {
					t.Errorf("got %+v", result)
				}
				if len(result.CPU) != 1 || result.CPU[0] <= 0 {
					t.Errorf("CPU is %v, want that of this process", result.CPU)
				}
				// Twice the rate would be many deviations away.
				if rate > 0 && float64(result.Requests) > 2*rate*result.Elapsed.Seconds() {
					t.Errorf("%d requests in %v, want %v a second", result.Requests, result.Elapsed, rate)
				}
				s.check(t, pick, secrets)
			})
		}
	}
}

// check checks that the keys which were shown are those of a pick.
func (s *seen) check(t *testing.T, pick Pick, secrets []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	known := 0
	for _, secret := range secrets {
		if s.keys[secret] > 0 {
			known++
		}
	}
	switch {
	case pick == One && (len(s.keys) != 1 || s.keys[secrets[0]] == 0):
		t.Errorf("%d keys were shown, want the first only", len(s.keys))
	case pick == Zipf && (known != len(s.keys) || known < 2 || s.keys[secrets[0]] <= s.keys[secrets[len(secrets)-1]]):
		t.Errorf("%d keys were shown, %d of them known", len(s.keys), known)
	case pick == Absent && len(s.keys) < 10:
		t.Errorf("%d keys were shown, want another one each time", len(s.keys))
	}
	for key := range s.keys {
		if _, err := apikey.ParseSecret(key); err != nil {
			t.Errorf("a key is none: %v", err)
		}
	}
}

func TestRefusalsAreFailures(t *testing.T) {
	path, _ := secretsFile(t, 1)
	var s seen
	result, err := Run(Job{Address: startHTTP(t, &s, 403), Connections: 2, Secrets: path, Duration: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if result.Failed != result.Requests || result.Statuses[403] != result.Requests || result.Requests == 0 {
		t.Errorf("got %+v", result)
	}
}

// A server that stalls is seen by all requests that were due meanwhile.
func TestOpenLoopWaits(t *testing.T) {
	path, _ := secretsFile(t, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }() // never answers
		}
	}()
	result, err := Run(Job{Address: listener.Addr().String(), Connections: 1, Rate: 200, Secrets: path, Duration: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if result.Requests != 0 || result.Failed < 2 {
		t.Errorf("got %+v, want no answers and all that were due failed", result)
	}
}

// authz allows the keys of a set.
type authz struct {
	authv3.UnimplementedAuthorizationServer
	seen    *seen
	allowed map[string]bool
	broken  bool
}

func (a *authz) Check(_ context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	key := check.GetAttributes().GetRequest().GetHttp().GetHeaders()["api-key"]
	a.seen.add(key)
	if a.broken {
		return nil, io.ErrUnexpectedEOF
	}
	if !a.allowed[key] {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}}, nil
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{}}, nil
}

func TestGRPC(t *testing.T) {
	path, secrets := secretsFile(t, 50)
	allowed := map[string]bool{}
	for _, secret := range secrets {
		allowed[secret] = true
	}
	tests := []struct {
		name   string
		pick   Pick
		broken bool
		want   int
	}{
		{name: "one", pick: One, want: 200},
		{name: "zipf", pick: Zipf, want: 200},
		{name: "absent", pick: Absent, want: 403},
		{name: "errors", pick: One, broken: true, want: 500},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := grpc.NewServer()
			var s seen
			authv3.RegisterAuthorizationServer(server, &authz{seen: &s, allowed: allowed, broken: test.broken})
			socket := filepath.Join(t.TempDir(), "authz.sock")
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = server.Serve(listener) }()
			defer server.Stop()
			result, err := Run(Job{Address: socket, GRPC: true, Connections: 2, Secrets: path, Pick: test.pick, Want: test.want, Duration: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if result.Failed != 0 || result.Requests == 0 || result.P50 <= 0 {
				t.Errorf("got %+v", result)
			}
			s.check(t, test.pick, secrets)
		})
	}
}

func TestJobsAreRefused(t *testing.T) {
	path, _ := secretsFile(t, 1)
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("tk_short"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		job        Job
	}{
		{"no duration", "duration", Job{Secrets: path}},
		{"a negative rate", "rate", Job{Secrets: path, Duration: 1, Rate: -1}},
		{"a rate of calls", "rate", Job{Secrets: path, Duration: 1, Rate: 1, GRPC: true}},
		{"too many streams", "streams", Job{Secrets: path, Duration: 1, Streams: 1000, GRPC: true}},
		{"no file", "reading keys", Job{Secrets: path + "x", Duration: 1}},
		{"a file of something else", "52 bytes", Job{Secrets: short, Duration: 1}},
		{"an unknown pick", "pick", Job{Secrets: path, Duration: 1, Pick: "all"}},
		{"nobody there", "connecting", Job{Secrets: path, Duration: 1, Address: "127.0.0.1:1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Run(test.job); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
}
