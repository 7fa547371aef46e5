package tunnel_test

import (
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/internal/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// repeat is a server that says what it is told, and counts how often it is.
func repeat(t *testing.T) (address string, heard chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard = make(chan string, 100)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				part := make([]byte, 100)
				for {
					n, err := conn.Read(part)
					if err != nil {
						return
					}
					heard <- string(part[:n])
					if _, err := conn.Write(part[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String(), heard
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// hear returns what comes within a time, or nothing.
func hear(conn net.Conn, within time.Duration) string {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	part := make([]byte, 100)
	n, _ := conn.Read(part)
	return string(part[:n])
}

const (
	soon = 30 * time.Second
	// silence is how long it is watched that nothing comes.
	silence = 50 * time.Millisecond
)

func TestNothingPassesUntilItIsHealed(t *testing.T) {
	for _, c := range []struct {
		name   string
		cut    func(*tunnel.Tunnel)
		served bool // whether the server hears while the tunnel is cut
	}{
		{"cut", (*tunnel.Tunnel).Cut, false}, {"answers are cut", (*tunnel.Tunnel).CutAnswers, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			target, heard := repeat(t)
			n := tunnel.Open(t, target)
			conn := dial(t, n.Address)
			say(t, conn, "a")
			if got := hear(conn, soon); got != "a" || <-heard != "a" {
				t.Fatalf("got %q", got)
			}
			c.cut(n)
			say(t, conn, "b")
			if got := hear(conn, silence); got != "" {
				t.Errorf("got %q through what is cut", got)
			}
			if served := len(heard) == 1; served != c.served {
				t.Errorf("the server heard: %v", served)
			}
			n.Heal()
			if got := hear(conn, soon); got != "b" {
				t.Errorf("got %q once healed", got)
			}
		})
	}
}

// What is delayed arrives later, each message as late as any other.
func TestDelay(t *testing.T) {
	target, _ := repeat(t)
	n := tunnel.Open(t, target)
	const each = 100 * time.Millisecond
	n.Delay(each)
	conn := dial(t, n.Address)
	began := time.Now()
	say(t, conn, "a")
	if got := hear(conn, soon); got != "a" || time.Since(began) < 2*each {
		t.Errorf("got %q after %v, expected it after %v", got, time.Since(began), 2*each)
	}
	n.Delay(0)
	say(t, conn, "b")
	if got := hear(conn, soon); got != "b" {
		t.Errorf("got %q", got)
	}
}

func TestBreakEndsConnections(t *testing.T) {
	target, _ := repeat(t)
	all := tunnel.Tunnels{tunnel.Open(t, target), tunnel.Open(t, target)}
	old := dial(t, all[1].Address)
	say(t, old, "a")
	if got := hear(old, soon); got != "a" {
		t.Fatalf("got %q", got)
	}
	all.Cut()
	all.Break()
	_ = old.SetReadDeadline(time.Now().Add(soon))
	if _, err := old.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the old connection: %v, expected it to end", err)
	}
	next := dial(t, all[1].Address)
	say(t, next, "b")
	if got := hear(next, soon); got != "b" {
		t.Errorf("got %q through a new connection", got)
	}
}

func isTimeout(err error) bool {
	failure, ok := err.(net.Error) //nolint:errorlint // as it is returned
	return ok && failure.Timeout()
}
