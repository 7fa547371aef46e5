package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
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

// cpu returns the processor time that the service has used, in user and system
// mode.
func (s *server) cpu(t testing.TB) time.Duration {
	t.Helper()
	const scheduled = 2 // of the clocks of a process, the one of both
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|scheduled), &at); err != nil { //nolint:gosec // no process has so large an id
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}

// logins are so many at once, each from another address and for another user.
type logins struct {
	all errgroup.Group

	mu       sync.Mutex
	answered map[int]int // by status
}

func startLogins(ctx context.Context, client *http.Client, api string, n int) *logins {
	l := &logins{answered: map[int]int{}}
	for i := range n {
		l.all.Go(func() error {
			body := fmt.Sprintf(`{"username": "nobody-%d", "password": "a guess of a password"}`, i)
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/api/users/auth/login/", strings.NewReader(body))
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
			l.mu.Lock()
			defer l.mu.Unlock()
			l.answered[response.StatusCode]++
			return nil
		})
	}
	return l
}

// Many parallel logins, each from another address and for another user, wait
// for one another and are turned away; no request through Envoy fails. What it
// takes to make and to refuse as many is measured beside it: all of this runs
// on the same processors.
func TestAttackLoginFlood(t *testing.T) {
	k := startStack(t, "--admin-address-header", "x-client-ip", "--block-never", "127.0.0.1")
	key := k.createKey(t, `{"name": "k"}`).Key
	calls := k.callAllTheTime(t, key)
	measured := int64(sized(3000, 300))
	before := calls.during(t, measured)
	tried := sized(1000, 250)
	client := &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: tried}}
	defer client.CloseIdleConnections()
	refuser := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer refuser.Close()
	refused := startLogins(t.Context(), client, refuser.URL, tried)
	floor := calls.during(t, measured)
	if err := refused.all.Wait(); err != nil {
		t.Error(err)
	}
	client.CloseIdleConnections()
	cpu, began, requests := k.cpu(t), time.Now(), calls.count.Load()
	flood := startLogins(t.Context(), client, "http://"+k.admin, tried)
	after := calls.during(t, measured)
	cpu, share := k.cpu(t)-cpu, time.Since(began)
	requests = calls.count.Load() - requests
	if err := flood.all.Wait(); err != nil {
		t.Error(err)
	}
	calls.end(t)
	answered := flood.answered
	if answered[http.StatusUnauthorized] == 0 || answered[http.StatusServiceUnavailable] == 0 ||
		answered[http.StatusUnauthorized]+answered[http.StatusServiceUnavailable] != tried {
		t.Errorf("answered %v, want some 401 and the rest 503", answered)
	}
	fmt.Printf("measured: %d parallel logins, answered %v: p99 of requests through Envoy %.1f ms before, %.1f ms during (%.2fx; %.2fx when another server refuses them at once); the service used %.2f processors, for %.0f requests a second\n",
		tried, answered, before.Seconds()*1e3, after.Seconds()*1e3, after.Seconds()/before.Seconds(), floor.Seconds()/before.Seconds(), cpu.Seconds()/share.Seconds(), float64(requests)/share.Seconds())
}
