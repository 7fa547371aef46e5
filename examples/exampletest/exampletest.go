// Package exampletest runs the real program for the tests of the examples.
//
//	service := exampletest.Serve(t, exampletest.Build(t))
//	key := service.NewKey(t)
//	front := envoytest.Start(t, envoy.Options{Authz: []string{service.Check}, AdminAPI: service.Admin})
package exampletest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Service is a running tokenkit-authz.
type Service struct {
	// Check, Admin and Metrics are the host:port of each; empty where it has
	// none.
	Check, Admin, Metrics string
	// Data is its folder.
	Data string

	program string
	cmd     *exec.Cmd
	read    chan struct{} // closed when its log has ended
}

// Build builds the program, for as long as the test runs.
func Build(t testing.TB) string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("finding the module: %v", err)
	}
	program := filepath.Join(t.TempDir(), "tokenkit-authz")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/tokenkit-authz")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return program
}

// Serve starts the program's serve on free ports of loopback, until the test
// ends. Later args win over earlier ones; "--data" is a new folder unless one
// is named.
func Serve(t testing.TB, program string, args ...string) *Service {
	t.Helper()
	return start(t, &Service{program: program, Data: filepath.Join(t.TempDir(), "data")}, nil,
		slices.Concat([]string{"--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain", "0"}, args))
}

// ServeWith starts the program as a child of a command that is prepared to do
// so, such as one with sockets to pass on. Nothing but the folder is added to
// its arguments.
func ServeWith(t testing.TB, program string, prepare func(*exec.Cmd), args ...string) *Service {
	t.Helper()
	return start(t, &Service{program: program, Data: filepath.Join(t.TempDir(), "data")}, prepare, args)
}

var serving = regexp.MustCompile(`msg=serving .*grpc=(\S*) .*admin=(\S*) metrics=(\S*)`)

func start(t testing.TB, s *Service, prepare func(*exec.Cmd), args []string) *Service {
	t.Helper()
	if i := slices.Index(args, "--data"); i >= 0 {
		s.Data = args[i+1]
	} else {
		args = append(args, "--data", s.Data)
	}
	s.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), s.program, append([]string{"serve"}, args...)...)
	if prepare != nil {
		prepare(s.cmd)
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan []string, 1)
	s.read = make(chan struct{})
	var said strings.Builder // read after it is closed
	go func() {
		defer close(s.read)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
			if match := serving.FindStringSubmatch(lines.Text()); match != nil {
				found <- match
				break
			}
		}
		_, _ = io.Copy(io.Discard, stderr)
	}()
	t.Cleanup(func() { s.Stop(t) })
	select {
	case match := <-found:
		s.Check, s.Admin = strings.Trim(match[1], `"`), strings.Trim(match[2], `"`)
		s.Metrics = strings.Trim(match[3], `"`)
	case <-s.read:
		t.Fatalf("the service ended before it served: %s", said.String())
	case <-time.After(60 * time.Second):
		t.Fatal("the service does not serve")
	}
	return s
}

// Stop ends the service and waits for that. The end of the test does the same.
func (s *Service) Stop(t testing.TB) {
	t.Helper()
	if s.cmd.ProcessState != nil {
		return
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-s.read
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
}

// Run runs another command of the program on the service's folder and returns
// what it prints.
func (s *Service) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), s.program, append(args, "--data", s.Data)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", args[:2], err, out)
	}
	return string(out)
}

// keyText matches an API key.
var keyText = regexp.MustCompile(`tk_[0-9A-Za-z]{49}`)

// NewKey makes a key and, at first, the user it belongs to. The flags are those
// of the command that makes keys.
func (s *Service) NewKey(t testing.TB, flags ...string) string {
	t.Helper()
	if !strings.Contains(s.Run(t, "user", "list"), "alice") {
		s.Run(t, "user", "add", "alice", "--generate")
	}
	key := keyText.FindString(s.Run(t, append([]string{"key", "create", "--owner", "alice", "app"}, flags...)...))
	if key == "" {
		t.Fatal("no key was shown")
	}
	return key
}

// Answer is what came back to a client.
type Answer struct {
	Status  int
	Headers http.Header
	Body    string
}

// Do sends a request with these headers, each a name and a value, and reads
// the answer.
func Do(t testing.TB, method, url string, headers ...string) Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Answer{Status: response.StatusCode, Headers: response.Header, Body: string(body)}
}
