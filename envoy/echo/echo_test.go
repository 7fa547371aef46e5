package echo_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/envoy/echo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func exchange(t *testing.T, address, message string) (*http.Response, *bufio.Reader, net.Conn) {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	if _, err := io.WriteString(connection, message); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response, reader, connection
}

func TestEcho(t *testing.T) {
	upstream := echo.Start(t)
	response, _, _ := exchange(t, upstream.Address(), //nolint:bodyclose // exchange does
		"PUT //a/../b?x=%2F<&y HTTP/1.1\r\nHost: h.example\r\nX-Two: 1\r\nx-two: 2\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
	var got echo.Request
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPut || got.Path != "//a/../b?x=%2F<&y" || got.Host != "h.example" || got.Body != "hello" || got.Header("X-Two") != "1 | 2" {
		t.Errorf("got %+v", got)
	}
	seen := upstream.Requests()
	if len(seen) != 1 || upstream.Count() != 1 || seen[0].Path != got.Path {
		t.Errorf("recorded %+v", seen)
	}
	if found, ok := upstream.Find("x-two", "1 | 2"); !ok || found.Body != "hello" {
		t.Errorf("found %v %+v", ok, found)
	}
	if _, ok := upstream.Find("x-two", "1"); ok {
		t.Error("found a request that was not made")
	}
}

func TestEchoKeepsTheLatest(t *testing.T) {
	upstream := echo.Start(t)
	connection, err := net.Dial("tcp", upstream.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	const n = 5000
	go func() {
		for range n {
			if _, err := io.WriteString(connection, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	reader := bufio.NewReader(connection)
	for range n {
		response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodHead})
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	if kept := len(upstream.Requests()); upstream.Count() != n || kept < 2048 || kept > 4096 {
		t.Errorf("kept %d of %d requests", kept, upstream.Count())
	}
}

// The example of RFC 6455, 1.3.
func TestEchoOfAWebSocket(t *testing.T) {
	upstream := echo.Start(t)
	response, reader, connection := exchange(t, upstream.Address(), //nolint:bodyclose // exchange does
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("got %s %v", response.Status, response.Header)
	}
	if _, err := io.WriteString(connection, "ping"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(reader, answer); err != nil || string(answer) != "ping" {
		t.Errorf("got %q, %v", answer, err)
	}
}

func TestListenSaysWhy(t *testing.T) {
	upstream := echo.Start(t)
	if _, err := echo.Listen(upstream.Address()); err == nil || !strings.HasPrefix(err.Error(), "starting the echo: ") {
		t.Errorf("got %v", err)
	}
}
