package redis_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/internal/real"
)

// server is a redis-server of its own folder.
type server struct {
	t       testing.TB
	folder  string
	address string
	args    []string
	command *exec.Cmd
}

// newServer starts a server with further settings, or skips the test where
// there is none.
func newServer(t testing.TB, settings ...string) *server {
	t.Helper()
	real.Require(t, "redis-server")
	s := &server{t: t, folder: t.TempDir(), address: freeAddress(t), args: settings}
	s.start()
	t.Cleanup(s.kill)
	return s
}

var exact = []string{"--appendonly", "yes", "--appendfsync", "always"}

func (s *server) start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.address)
	args := append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", s.folder, "--save", "", "--loglevel", "warning", "--repl-diskless-sync-delay", "0"}, s.args...)
	s.command = exec.Command("redis-server", args...) //nolint:gosec // arguments of the test
	log, err := os.OpenFile(filepath.Join(s.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.command.Stdout, s.command.Stderr = log, log
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	_ = log.Close()
	eventually(s.t, "redis-server answers", func() bool { return s.answers() })
}

func (s *server) answers() bool {
	answer := s.run("PING")
	return answer == "+PONG" || strings.HasPrefix(answer, "-NOAUTH")
}

func (s *server) kill() {
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
}

func (s *server) signal(sig syscall.Signal) {
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// run sends one command and returns the first line of what is answered.
func (s *server) run(words ...string) string {
	return command(s.address, words...)
}

func command(address string, words ...string) string {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(2 * time.Second))
	request := fmt.Sprintf("*%d\r\n", len(words))
	for _, word := range words {
		request += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(connection, request); err != nil {
		return err.Error()
	}
	answer := make([]byte, 4096)
	n, err := connection.Read(answer)
	if err != nil {
		return err.Error()
	}
	for i, b := range answer[:n] {
		if b == '\r' {
			return string(answer[:i])
		}
	}
	return string(answer[:n])
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return "127.0.0.1:" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port) //nolint:errcheck // it is one
}

// eventually waits for something that other processes do.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited for 30 s until %s", what)
		}
	}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func open(t testing.TB, o redis.Options) *redis.Client {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet()
	}
	client, err := redis.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// says returns all of what a server says to a command.
func (s *server) says(words string) string {
	connection, err := net.DialTimeout("tcp", s.address, time.Second)
	if err != nil {
		return ""
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(2 * time.Second))
	// A command that does not exist ends the answer.
	if _, err := io.WriteString(connection, words+"\r\nEND\r\n"); err != nil {
		return ""
	}
	var text []byte
	for part := make([]byte, 4096); !strings.Contains(string(text), "-ERR unknown command"); {
		n, err := connection.Read(part)
		if err != nil {
			return ""
		}
		text = append(text, part[:n]...)
	}
	return string(text)
}

func (s *server) info(line string) bool { return strings.Contains(s.says("INFO replication"), line) }

// knows reports whether a Sentinel takes a server for the master.
func (s *server) knows(master *server) bool {
	return strings.Contains(s.says("SENTINEL GET-MASTER-ADDR-BY-NAME limits"), port(master.address))
}

func (s *server) linkUp() bool   { return s.info("master_link_status:up") }
func (s *server) isMaster() bool { return s.info("role:master") }

// newSentinel starts a Sentinel that replaces master after two seconds.
func newSentinel(t testing.TB, master *server) *server {
	t.Helper()
	s := &server{t: t, folder: t.TempDir(), address: freeAddress(t)}
	settings := filepath.Join(s.folder, "sentinel.conf")
	text := "port " + port(s.address) + "\nbind 127.0.0.1\ndir " + s.folder + "\nsentinel monitor limits 127.0.0.1 " + port(master.address) +
		" 1\nsentinel down-after-milliseconds limits 2000\nsentinel failover-timeout limits 3000\n"
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.command = exec.Command("redis-server", settings, "--sentinel") //nolint:gosec // arguments of the test
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	eventually(t, "the Sentinel knows the replica", func() bool {
		return s.run("PING") == "+PONG" && strings.HasPrefix(s.run("SENTINEL", "REPLICAS", "limits"), "*1")
	})
	return s
}

func (s *server) expect(answer string, words ...string) {
	s.t.Helper()
	if got := s.run(words...); got != answer {
		s.t.Fatalf("%v: expected %s, got %s", words, answer, got)
	}
}
