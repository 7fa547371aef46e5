// Package redistest runs real Redis servers for tests, which a test may kill,
// pause and start again, and a Sentinel that lets a replica take over.
//
//	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
//	server.Kill(t)
//	server.Start(t)
//
// TOKENKIT_REDIS in the environment names another server to run, such as that
// of Valkey.
package redistest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/real"
)

// Server is one server on loopback.
type Server struct {
	real.Process
	Address string // host:port
	args    []string
	log     string
}

// Start runs a server with these arguments, which say more than its address
// and folder, until the test ends. It skips the test where there is no Redis.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	folder := t.TempDir()
	return run(t, folder, append([]string{"--dir", folder, "--save", "", "--repl-diskless-sync-delay", "0"}, args...)...)
}

// run runs a server of any kind.
func run(t testing.TB, folder string, args ...string) *Server {
	t.Helper()
	program(t)
	s := &Server{Address: FreeAddress(t), args: args, log: filepath.Join(folder, "log")}
	t.Cleanup(func() {
		s.End()
		if t.Failed() {
			if text, err := os.ReadFile(s.log); err == nil {
				t.Logf("redis %s: %s", s.Address, text[max(0, len(text)-4000):])
			}
		}
	})
	s.Start(t)
	return s
}

// program returns the path of the server.
func program(t testing.TB) string {
	t.Helper()
	if named := os.Getenv("TOKENKIT_REDIS"); named != "" {
		return real.Require(t, named)
	}
	return real.Require(t, "redis-server", "valkey-server")
}

// FreeAddress returns one on loopback where nobody listens.
func FreeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// Start runs a server that does not run, over the files that it had and with
// further arguments from now on, and waits until it answers.
func (s *Server) Start(t testing.TB, args ...string) {
	t.Helper()
	s.args = append(s.args, args...)
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(program(t), append(s.args, "--port", s.Port(), "--bind", "127.0.0.1")...) //nolint:noctx // it ends with the test
	cmd.Stdout, cmd.Stderr = log, log
	s.Run(t, cmd)
	s.wait(t, "it answers", func() bool {
		answer := s.Says("PING")
		return answer == "+PONG\r\n" || strings.HasPrefix(answer, "-NOAUTH")
	})
}

// Port returns the port of the server's address.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Address)
	return port
}

// wait waits until something is so.
func (s *Server) wait(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !so() {
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("redis %s: waited until %s", s.Address, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Says returns what a server answers to one command, as [Do] does, or why it
// does not answer.
func (s *Server) Says(command ...string) string {
	answer, err := Do(s.Address, command...)
	if err != nil {
		return err.Error()
	}
	return answer
}

// Do sends one command to a server and returns what it answers within a
// second, as it is sent (RESP). It is for looking at servers, not for programs.
func Do(address string, command ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, time.Second) //nolint:noctx // it has a timeout
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(word), word)
	}
	// The end of the answer is known by that of the next one.
	const last = "+PONG\r\n"
	text.WriteString("*1\r\n$4\r\nPING\r\n")
	if _, err := conn.Write([]byte(text.String())); err != nil {
		return "", err
	}
	lines := bufio.NewReader(conn)
	var answer strings.Builder
	pongs := 1
	if len(command) == 1 && strings.EqualFold(command[0], "PING") {
		pongs = 2
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == last {
			if pongs--; pongs == 0 {
				return answer.String(), nil
			}
		}
		answer.WriteString(line)
		if strings.HasPrefix(line, "-NOAUTH") { // and so is the end
			return answer.String(), nil
		}
	}
}
