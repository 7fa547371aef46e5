package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"
)

// sized returns the one number where TOKENKIT_ATTACKS is "long", else the other.
func sized(long, short int) int {
	if os.Getenv("TOKENKIT_ATTACKS") == "long" {
		return long
	}
	return short
}

// caller makes requests through Envoy all the time, and remembers how long
// each took and whether one failed.
type caller struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	count atomic.Int64

	mu     sync.Mutex
	took   []time.Duration
	failed error
}

func (k *stack) callAllTheTime(t *testing.T, key string) *caller {
	ctx, stop := context.WithCancel(t.Context())
	c := &caller{stop: stop}
	client := clientFrom("127.0.0.1", 4)
	for range 4 {
		c.done.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				code, err := get(ctx, client, k.front, key)
				if ctx.Err() != nil {
					return
				}
				if err == nil && code != http.StatusOK {
					err = fmt.Errorf("status %d", code)
				}
				c.mu.Lock()
				c.took = append(c.took, time.Since(began))
				if err != nil && c.failed == nil {
					c.failed = err
				}
				c.mu.Unlock()
				c.count.Add(1)
			}
		})
	}
	t.Cleanup(func() {
		stop()
		c.done.Wait()
		client.CloseIdleConnections()
	})
	return c
}

// during waits until n requests more were answered, and returns the 99th
// percentile of how long those took.
func (c *caller) during(t *testing.T, n int64) time.Duration {
	t.Helper()
	c.mu.Lock()
	c.took = nil
	c.mu.Unlock()
	before := c.count.Load()
	eventually(t, fmt.Sprintf("%d requests are answered", n), func() bool { return c.count.Load() >= before+n })
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.took)
	return c.took[len(c.took)*99/100]
}

// end ends the requests; it fails the test where one of them has failed.
func (c *caller) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.done.Wait()
	if c.failed != nil {
		t.Errorf("a request failed: %v", c.failed)
	}
	if c.count.Load() < 100 {
		t.Errorf("only %d requests were made", c.count.Load())
	}
}

// idle opens n connections from so many addresses.
func idle(t *testing.T, address string, n, addresses int) (all []net.Conn) {
	t.Helper()
	t.Cleanup(func() {
		for _, conn := range all {
			_ = conn.Close()
		}
	})
	for i := range n {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%addresses))}, Timeout: 20 * time.Second}
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			continue // refused before it was one
		}
		all = append(all, conn)
	}
	return all
}

// stillOpen waits until at most so many connections are open, and returns how
// many are.
func stillOpen(all []net.Conn, most int) int {
	for deadline := time.Now().Add(20 * time.Second); ; {
		all = slices.DeleteFunc(slices.Clone(all), func(conn net.Conn) bool { return !isOpen(conn) })
		if len(all) <= most || time.Now().After(deadline) {
			return len(all)
		}
	}
}

// isOpen reports whether the other side has not closed a connection.
func isOpen(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	for {
		_, err := conn.Read(make([]byte, 256)) // of HTTP/2 the server speaks first
		if err == nil {
			continue
		}
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
}

// Thousands of connections that do nothing take no more than their share, and
// no request through Envoy fails meanwhile.
func TestAttackIdleConnections(t *testing.T) {
	const most = 1000
	k := startStack(t, "--grpc-max-connections", fmt.Sprint(most), "--http-max-connections", fmt.Sprint(most), "--block-never", "127.0.0.1")
	key := k.createKey(t, `{"name": "k"}`).Key
	for _, c := range []struct {
		name, address string
		most          int
	}{
		{"Check calls", k.grpc, most},
		{"admin API", k.admin, most},
		// Envoy lets in 50,000.
		{"Envoy", strings.TrimPrefix(k.front, "http://"), 50_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := k.callAllTheTime(t, key)
			before := calls.during(t, int64(sized(5000, 300)))
			tried := sized(10_000, 2000)
			opened := idle(t, c.address, tried, 8)
			open := stillOpen(opened, c.most)
			after := calls.during(t, int64(sized(5000, 300)))
			calls.end(t)
			if open > c.most || open == 0 {
				t.Errorf("%d connections are open, want at most %d", open, c.most)
			}
			fmt.Printf("measured: %d idle connections to %s, %d let in: p99 of requests through Envoy %.1f ms before, %.1f ms during (%.2fx)\n",
				tried, c.name, open, before.Seconds()*1e3, after.Seconds()*1e3, after.Seconds()/before.Seconds())
		})
	}
}

// One address takes at most half of the connections.
func TestAttackConnectionsOfOneAddress(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--grpc-max-connections", "20", "--http-max-connections", "20")
	for name, address := range map[string]string{"Check calls": s.grpc, "admin API": s.admin} {
		t.Run(name, func(t *testing.T) {
			if got := stillOpen(idle(t, address, 15, 1), 10); got != 10 {
				t.Errorf("one address has %d connections of 20, want 10", got)
			}
			if got := stillOpen(idle(t, address, 10, 2), 5); got != 5 { // half of these are from another one
				t.Errorf("another address has %d connections, want its 5", got)
			}
		})
	}
}

// resets opens and resets streams on one connection after another until n were,
// or the context is done, and returns how many connections it took.
func resets(ctx context.Context, address, path string, n int) (connections, sent int, err error) {
	for sent < n && ctx.Err() == nil {
		connections++
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, 1)}}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return connections, sent, err
		}
		sent += resetsOn(conn, path, n-sent)
		_ = conn.Close()
	}
	return connections, sent, ctx.Err()
}

// resetsOn sends until the other side has had enough of it.
func resetsOn(conn net.Conn, path string, n int) (sent int) {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	var buffer bytes.Buffer
	framer := http2.NewFramer(&buffer, nil)
	buffer.WriteString(http2.ClientPreface)
	_ = framer.WriteSettings()
	for stream := uint32(1); sent < n; stream += 2 {
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"},
		} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
		_ = framer.WriteRSTStream(stream, http2.ErrCodeCancel)
		sent++
		if sent%50 > 0 && sent < n {
			continue
		}
		if _, err := conn.Write(buffer.Bytes()); err != nil {
			break
		}
		buffer.Reset()
		select {
		case <-gone:
			return sent
		default:
		}
	}
	return sent
}

// Streams that are opened and reset at once hold up nobody else.
func TestAttackRapidReset(t *testing.T) {
	k := startStack(t, "--block-never", "127.0.0.1")
	key := k.createKey(t, `{"name": "k"}`).Key
	for _, c := range []struct{ name, address, path string }{
		{"Check calls", k.grpc, "/envoy.service.auth.v3.Authorization/Check"},
		{"admin API", k.admin, "/api/users/auth/api-keys/"},
		{"Envoy", strings.TrimPrefix(k.front, "http://"), "/api/tokens/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := k.callAllTheTime(t, key)
			before := calls.during(t, int64(sized(5000, 300)))
			streams := sized(100_000, 5000)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var flood errgroup.Group
			var took int
			flood.Go(func() (err error) {
				took, streams, err = resets(ctx, c.address, c.path, streams)
				return err
			})
			after := calls.during(t, int64(sized(5000, 300)))
			if err := flood.Wait(); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			calls.during(t, 100) // it works after the flood, too
			calls.end(t)
			fmt.Printf("measured: %d streams reset on %s over %d connections: p99 of requests through Envoy %.1f ms before, %.1f ms during (%.2fx)\n",
				streams, c.name, took, before.Seconds()*1e3, after.Seconds()*1e3, after.Seconds()/before.Seconds())
		})
	}
}

// A client that opens more streams than it may is refused those.
func TestAttackManyStreams(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.grpc)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it has ended
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	const excess = 10
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	var sending errgroup.Group
	sending.Go(func() error {
		for i := range maxChecksUnderWay + excess {
			block.Reset()
			for _, field := range [][2]string{
				{":method", "POST"}, {":scheme", "http"}, {":path", "/envoy.service.auth.v3.Authorization/Check"}, {":authority", "localhost"},
				{"content-type", "application/grpc"}, {"te", "trailers"},
			} {
				_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
			}
			// No message follows, so that each Check stays under way.
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
				return err
			}
		}
		return nil
	})
	refused := 0
	for refused < excess {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("after %d refusals: %v", refused, err)
		}
		if reset, ok := frame.(*http2.RSTStreamFrame); ok && reset.ErrCode == http2.ErrCodeRefusedStream {
			refused++
		}
	}
	if err := sending.Wait(); err != nil {
		t.Error(err)
	}
}

// Many parallel logins, each from another address and for another user, wait
// for one another and are turned away; no request through Envoy fails.
func TestAttackLoginFlood(t *testing.T) {
	k := startStack(t, "--admin-address-header", "x-client-ip", "--block-never", "127.0.0.1")
	key := k.createKey(t, `{"name": "k"}`).Key
	calls := k.callAllTheTime(t, key)
	before := calls.during(t, int64(sized(3000, 300)))
	logins := sized(1000, 250)
	client := &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: logins}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	answered := map[int]int{}
	var all errgroup.Group
	for i := range logins {
		all.Go(func() error {
			body := fmt.Sprintf(`{"username": "nobody-%d", "password": "a guess of a password"}`, i)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+k.admin+"/api/users/auth/login/", strings.NewReader(body))
			if err != nil {
				return err
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Client-Ip", fmt.Sprintf("203.0.%d.%d", i/250, 1+i%250))
			response, err := client.Do(r)
			if err != nil {
				return err
			}
			defer response.Body.Close() //nolint:errcheck // only read
			mu.Lock()
			defer mu.Unlock()
			answered[response.StatusCode]++
			return nil
		})
	}
	after := calls.during(t, int64(sized(3000, 300)))
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	calls.end(t)
	if answered[http.StatusUnauthorized] == 0 || answered[http.StatusServiceUnavailable] == 0 ||
		answered[http.StatusUnauthorized]+answered[http.StatusServiceUnavailable] != logins {
		t.Errorf("answered %v, want some 401 and the rest 503", answered)
	}
	fmt.Printf("measured: %d parallel logins, answered %v: p99 of requests through Envoy %.1f ms before, %.1f ms during (%.2fx)\n",
		logins, answered, before.Seconds()*1e3, after.Seconds()*1e3, after.Seconds()/before.Seconds())
}
