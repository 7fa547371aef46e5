package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/internal/etcdtest"
)

// program is the built binary, the real thing under test.
var program struct {
	once sync.Once
	path string
	err  error
}

func binary(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		dir, err := os.MkdirTemp("", "tokenkit-authz-test-")
		if err != nil {
			program.err = err
			return
		}
		program.path = filepath.Join(dir, "tokenkit-authz")
		out, err := exec.Command("go", "build", "-o", program.path, ".").CombinedOutput()
		if err != nil {
			program.err = fmt.Errorf("building the program: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// tests runs all tests, then removes the built binary.
type tests struct{ *testing.M }

func (m tests) Run() int {
	code := m.M.Run()
	if program.path != "" {
		_ = os.RemoveAll(filepath.Dir(program.path))
	}
	return code
}

func TestMain(m *testing.M) {
	etcdtest.Main()
	syscall.Umask(0o077) // data folders that tests make are for their owner only
	testscript.Main(tests{m}, map[string]func(){"tokenkit-authz": main})
}

// server is one running `serve`.
type server struct {
	data, grpc, admin string
	metrics           string // empty: none
	cmd               *exec.Cmd
	logs              *logBuffer
	out               bytes.Buffer // to be read once it has ended
	exited            chan error
}

// logBuffer keeps what a process logs and tells the first match of a pattern.
type logBuffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	pattern *regexp.Regexp
	found   chan []string
}

func (b *logBuffer) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		b.mu.Lock()
		b.text.WriteString(lines.Text() + "\n")
		match := b.pattern.FindStringSubmatch(lines.Text())
		b.mu.Unlock()
		if match != nil {
			select {
			case b.found <- match:
			default:
			}
		}
	}
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// without returns the first lines that do not contain part.
func (b *logBuffer) without(part string) string {
	var kept []string
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, part) && len(kept) < 50 {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// startServer runs `serve` on free ports over a data folder until the test ends.
func startServer(t testing.TB, data string, args ...string) *server {
	t.Helper()
	s := prepareServer(t, data, args...)
	s.start(t)
	return s
}

func prepareServer(t testing.TB, data string, args ...string) *server {
	t.Helper()
	s := &server{data: data, exited: make(chan error, 1), logs: &logBuffer{
		pattern: regexp.MustCompile(`msg=serving .* grpc=(\S+) grpc_socket=\S+ admin=(\S+) metrics=(\S+)`), found: make(chan []string, 1),
	}}
	args = append([]string{"serve", "--data", data, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain", "0"}, args...)
	s.cmd = exec.Command(binary(t), args...)
	s.cmd.Stdout = &s.out
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { s.logs.read(stderr); close(read) }()
	go func() { <-read; s.exited <- s.cmd.Wait() }()
	t.Cleanup(func() { s.stop(t) })
	select {
	case match := <-s.logs.found:
		s.grpc, s.admin, s.metrics = match[1], match[2], strings.Trim(match[3], `"`)
	case err := <-s.exited:
		s.exited <- err
		t.Fatalf("serve ended at once: %v\n%s", err, s.logs)
	case <-time.After(20 * time.Second):
		t.Fatalf("serve does not say that it serves:\n%s", s.logs)
	}
}

// stop ends the server as an init system does and checks that it ends well.
func (s *server) stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	s.wait(t)
}

// wait waits until a server that was told to stop has ended.
func (s *server) wait(t testing.TB) {
	t.Helper()
	select {
	case err := <-s.exited:
		if err != nil {
			t.Errorf("serve ended with %v\n%s", err, s.logs)
		}
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		t.Errorf("serve does not end on SIGTERM:\n%s", s.logs)
	}
	s.cmd = nil
	if t.Failed() {
		t.Logf("the service's log, all but denials:\n%s", s.logs.without("msg=\"check denied\""))
	}
}

// command runs the program and returns its standard output.
func command(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

const (
	testUser     = "you@example.com"
	testPassword = "correct horse battery staple"
)

// stack is the whole of it: the service, an upstream and a real Envoy.
type stack struct {
	*server
	front string // http://host:port of Envoy
	echo  *echo.Recorder
	token string
}

// startStack starts all parts with one user signed in. It skips the test where
// there is no Envoy.
func startStack(t testing.TB, serveArgs ...string) *stack {
	t.Helper()
	envoytest.Require(t)
	k := &stack{server: startServer(t, t.TempDir(), serveArgs...)}
	command(t, testPassword+"\n", "user", "add", testUser, "--data", k.data)
	k.echo = echo.Start(t)
	// These tests are about what is decided, not how fast: a decision that a
	// busy machine makes too late is spent, but not allowed.
	k.front = envoytest.Start(t, envoy.Options{
		Authz: []string{k.grpc}, AdminAPI: k.admin, Upstream: k.echo.Address(), AuthzTimeout: 10 * time.Second,
	}).URL
	var err error
	if k.token, err = login(t.Context(), k.front, testUser, testPassword); err != nil {
		t.Fatal(err)
	}
	return k
}

// call makes an admin call through Envoy and decodes its answer.
func (k *stack) call(t testing.TB, method, path, body string, want int, answer any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, k.front+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if k.token != "" {
		request.Header.Set("Authorization", "Bearer "+k.token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != want {
		t.Fatalf("%s %s: %d %s, want %d", method, path, response.StatusCode, text, want)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// createdKey is what creating a key answers.
type createdKey struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	Key  string `json:"key"`
}

func (k *stack) createKey(t testing.TB, body string) createdKey {
	t.Helper()
	var created createdKey
	k.call(t, "POST", "/api/users/auth/create-api-key/", body, http.StatusCreated, &created)
	return created
}

// clientFrom returns a client whose connections come from a loopback address,
// n of them at the most.
func clientFrom(address string, n int) *http.Client {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: dialer.DialContext, MaxConnsPerHost: n, MaxIdleConnsPerHost: n,
	}}
}

// get requests the protected example with a key and returns the status.
func get(ctx context.Context, client *http.Client, front, key string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, front+"/api/tokens/?common=true", nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Api-Key", key)
	start := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.StatusCode >= 500 {
		return 0, fmt.Errorf("after %v: status %d: %s", time.Since(start), response.StatusCode, body)
	}
	return response.StatusCode, err
}
