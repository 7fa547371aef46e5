// Package echo is an upstream that answers what it was asked, to see what a
// proxy lets through and what it changes on the way.
//
//	upstream, err := echo.Listen("127.0.0.1:0")
//	defer upstream.Close()
//	... requests through a proxy to upstream.Address() ...
//	seen := upstream.Requests()
//
// The answer to every request is 200 with a [Request] as JSON.
package echo

import (
	"context"
	"crypto/sha1" // as RFC 6455 asks for
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is a request as it arrived.
type Request struct {
	Method string `json:"method"`
	// Path is the request target as sent, with its query.
	Path string `json:"path"`
	Host string `json:"host"`
	// Headers are the values of each header, by its name in lower case.
	Headers map[string][]string `json:"headers"`
	// Body is the first 64 KiB of it.
	Body string `json:"body"`
}

// Header returns the only value of a header, "" where there is none, or the
// values joined with " | ", which no test expects.
func (r *Request) Header(name string) string {
	return strings.Join(r.Headers[strings.ToLower(name)], " | ")
}

const maxBody = 64 << 10

// maxRequests bounds what a [Recorder] keeps: the latest requests.
const maxRequests = 4096

// Handler answers every request with a [Request] as JSON. It first calls
// record, where that is not nil, from many goroutines at once.
//
// A WebSocket handshake (RFC 6455) is answered with 101; what is then sent
// comes back byte for byte.
func Handler(record func(Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			http.Error(w, "reading the body", http.StatusBadRequest)
			return
		}
		request := Request{
			Method: r.Method, Path: r.RequestURI, Host: r.Host, Body: string(body),
			Headers: make(map[string][]string, len(r.Header)),
		}
		for name, values := range r.Header {
			request.Headers[strings.ToLower(name)] = values
		}
		if record != nil {
			record(request)
		}
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			upgrade(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(request) // the client is gone, or it has its answer
	})
}

func upgrade(w http.ResponseWriter, r *http.Request) {
	connection, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "this connection cannot be upgraded", http.StatusNotImplemented)
		return
	}
	defer func() { _ = connection.Close() }()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if err := buffered.Flush(); err != nil {
		return
	}
	_, _ = io.Copy(connection, buffered) // until either side ends it
}

// Recorder is a running echo that remembers what it was asked.
type Recorder struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}

	mu       sync.Mutex
	requests []Request
	count    int
}

// Listen starts an echo on a host:port, of which port 0 stands for any free
// one.
func Listen(address string) (*Recorder, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("starting the echo: %w", err)
	}
	r := &Recorder{listener: listener, done: make(chan struct{})}
	r.server = &http.Server{Handler: Handler(r.record), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(r.done)
		_ = r.server.Serve(listener) // ends with Close
	}()
	return r, nil
}

func (r *Recorder) record(request Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	if len(r.requests) == maxRequests {
		r.requests = slices.Delete(r.requests, 0, maxRequests/2)
	}
	r.requests = append(r.requests, request)
}

// Address returns the host:port that the echo listens on.
func (r *Recorder) Address() string { return r.listener.Addr().String() }

// Requests returns the latest requests, oldest first: all of the first 4,096,
// then at least the last 2,048.
func (r *Recorder) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Count returns how many requests have arrived.
func (r *Recorder) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// Find returns the latest request whose header has the value.
func (r *Recorder) Find(header, value string) (Request, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range slices.Backward(r.requests) {
		if request.Header(header) == value {
			return request, true
		}
	}
	return Request{}, false
}

// Close ends the echo and its connections.
func (r *Recorder) Close() error {
	err := r.server.Close()
	<-r.done
	if err != nil {
		return fmt.Errorf("ending the echo: %w", err)
	}
	return nil
}

// TB is what [Start] needs of a test.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

// Start starts an echo on a free port of the loopback address, until the test
// ends.
func Start(t TB) *Recorder {
	t.Helper()
	r, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}
