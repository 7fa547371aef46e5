// Package redistest runs real Redis servers for tests, which a test may kill,
// pause and start again, and a Sentinel that lets a replica take over.
//
//	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
//	server.Kill(t)
//	server.Start(t)
package redistest

import (
	"bufio"
	"errors"
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
	return run(t, folder, append([]string{"--dir", folder, "--save", ""}, args...)...)
}

// run runs a server of any kind.
func run(t testing.TB, folder string, args ...string) *Server {
	t.Helper()
	real.Require(t, "redis-server", "valkey-server")
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: listener.Addr().String(), args: args, log: filepath.Join(folder, "log")}
	_ = listener.Close()
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

// StartReplica runs a server that copies s.
func (s *Server) StartReplica(t testing.TB, args ...string) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.Address)
	replica := Start(t, append([]string{"--replicaof", host, port}, args...)...)
	wait(t, func() error {
		answer, err := Do(replica.Address, "INFO", "replication")
		if err == nil && !strings.Contains(answer, "master_link_status:up") {
			err = errors.New("the replica is not connected")
		}
		return err
	})
	return replica
}

// Group is the name under which Sentinel knows the servers.
const Group = "tokenkit"

// StartSentinel runs a Sentinel that makes a replica of s take its place when
// s does not answer for half a second.
func (s *Server) StartSentinel(t testing.TB) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.Address)
	folder := t.TempDir()
	config := filepath.Join(folder, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor %s %s %s 1\nsentinel down-after-milliseconds %s 500\nsentinel failover-timeout %s 3000\n", Group, host, port, Group, Group)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := run(t, folder, config, "--sentinel", "--dir", folder)
	wait(t, func() error { // until it knows a replica
		answer, err := Do(sentinel.Address, "SENTINEL", "MASTER", Group)
		if err == nil && strings.Contains(answer, "num-slaves\r\n$1\r\n0") {
			err = errors.New("sentinel knows of no replica")
		}
		return err
	})
	return sentinel
}

// Start runs a server that does not run, over the files that it had, and waits
// until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.Address)
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(real.Require(t, "redis-server", "valkey-server"), append(s.args, "--port", port, "--bind", "127.0.0.1")...) //nolint:noctx // it ends with the test
	cmd.Stdout, cmd.Stderr = log, log
	s.Run(t, cmd)
	wait(t, func() error {
		answer, err := Do(s.Address, "PING")
		if err == nil && answer != "+PONG\r\n" {
			err = errors.New(answer)
		}
		return err
	})
}

// wait tries until there is no error.
func wait(t testing.TB, try func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			t.Fatalf("waiting for redis: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
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
	}
}
