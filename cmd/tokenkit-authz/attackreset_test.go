package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"
)

// resets opens and resets streams on one connection after another while more
// says so of how many were, and the context is not done, and returns how many
// connections it took.
func resets(ctx context.Context, address, path string, more func(sent int) bool) (connections, sent int, err error) {
	for more(sent) && ctx.Err() == nil {
		connections++
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, 1)}}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return connections, sent, err
		}
		before := sent
		sent += resetsOn(conn, path, func(sent int) bool { return more(before + sent) })
		_ = conn.Close()
	}
	return connections, sent, ctx.Err()
}

// resetsOn sends until the other side has had enough of it.
func resetsOn(conn net.Conn, path string, more func(sent int) bool) (sent int) {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_ = conn.(*net.TCPConn).SetWriteBuffer(16 << 10) // what nobody reads is no flood
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	var buffer bytes.Buffer
	framer := http2.NewFramer(&buffer, nil)
	buffer.WriteString(http2.ClientPreface)
	_ = framer.WriteSettings()
	block := headerBlock(path)
	for stream := uint32(1); more(sent); stream += 2 {
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
		_ = framer.WriteRSTStream(stream, http2.ErrCodeCancel)
		sent++
		if sent%50 > 0 {
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

// Streams that are opened and reset at once, for as long as it is measured, hold
// up nobody else.
func TestAttackRapidReset(t *testing.T) {
	k := startStack(t, "--block-never", "127.0.0.1", "--metrics-listen", "127.0.0.1:0")
	key := k.createKey(t, `{"name": "k"}`).Key
	for _, c := range []struct {
		name, address, path string
		streams             int
	}{
		{"Check calls", k.grpc, "/envoy.service.auth.v3.Authorization/Check", sized(100_000, 5000)},
		// It speaks no HTTP/2, so that each of its connections takes a few hundred.
		{"admin API", k.admin, "/api/users/auth/api-keys/", sized(100_000, 20_000)},
		{"Envoy", strings.TrimPrefix(k.front, "http://"), "/api/tokens/", sized(100_000, 5000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := k.callAllTheTime(t, key)
			before := calls.during(t, int64(sized(5000, 300)))
			cpu, began, answered := k.cpu(t), time.Now(), calls.count.Load()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var flood errgroup.Group
			var took, sent int
			var measured atomic.Bool
			more := func(sent int) bool {
				if sent%50 == 0 { // a hundred thousand a second: it shares the processors with what it attacks
					time.Sleep(time.Until(began.Add(time.Duration(sent) * (time.Second / 100_000))))
				}
				return sent < c.streams || !measured.Load()
			}
			flood.Go(func() (err error) {
				took, sent, err = resets(ctx, c.address, c.path, more)
				return err
			})
			after := calls.during(t, int64(sized(5000, 300)))
			measured.Store(true)
			cpu, share := k.cpu(t)-cpu, time.Since(began)
			answered = calls.count.Load() - answered
			if err := flood.Wait(); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if c.address == k.admin {
				opened := 50 + 200*(time.Since(began).Seconds()+1)
				if slowed := metric(t, k.server, `connections_slowed_total{listener="admin"}`); float64(took)-slowed > opened {
					t.Errorf("of %d connections %.0f had to wait, want all beyond %.0f", took, slowed, opened)
				}
			}
			calls.during(t, 100) // it works after the flood, too
			calls.end(t)
			fmt.Printf("measured: %d streams reset on %s over %d connections: p99 of requests through Envoy %.1f ms before, %.1f ms during (%.2fx); the service used %.2f processors, for %.0f requests a second\n",
				sent, c.name, took, before.Seconds()*1e3, after.Seconds()*1e3, after.Seconds()/before.Seconds(), cpu.Seconds()/share.Seconds(), float64(answered)/share.Seconds())
		})
	}
}

// A connection that resets what it opens is read more slowly; one on which
// Checks are answered is not, also of the same address.
func TestAttackResetsWait(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"), "--metrics-listen", "127.0.0.1:0")
	checks := newGRPCClient(t, s)
	answered := func(n int) {
		for range n {
			if checks.check(t, "192.0.2.1", "") {
				t.Fatal("a request without a key passed")
			}
		}
	}
	answered(3000)
	if got := metric(t, s, "connections_unanswered_total"); got != 0 {
		t.Fatalf("%.0f connections of answered Checks were slowed down", got)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.grpc)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // it has ended
	var flood errgroup.Group
	flood.Go(func() error {
		resetsOn(conn, "/envoy.service.auth.v3.Authorization/Check", func(sent int) bool { return sent < 20_000 })
		return nil
	})
	eventually(t, "the flood is slowed down", func() bool { return metric(t, s, "connections_unanswered_total") == 1 })
	answered(3000)
	newGRPCClient(t, s).check(t, "192.0.2.1", "")
	if got := metric(t, s, "connections_unanswered_total"); got != 1 {
		t.Errorf("%.0f connections were slowed down, want the flood's", got)
	}
	_ = conn.Close()
	_ = flood.Wait()
}

// metric returns the value of one, 0 where it is not there.
func metric(t testing.TB, s *server, name string) (value float64) {
	t.Helper()
	for line := range strings.Lines(scrape(t, s)) {
		if rest, found := strings.CutPrefix(line, "tokenkit_authz_"+name+" "); found {
			var err error
			if value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return value
}

// openHTTP2 opens a connection for frames, which ends with the test and within
// 20 seconds.
func openHTTP2(t *testing.T, address string) (*http2.Framer, net.Conn) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return framer, conn
}

// headerBlock returns the header of a call, the same for each stream.
func headerBlock(path string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "localhost"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return block.Bytes()
}

// Envoy closes a connection most of whose streams were reset at once, soon, and
// none for a few.
func TestAttackResetsThroughEnvoy(t *testing.T) {
	k := startStack(t, "--block-never", "127.0.0.1")
	block := headerBlock("/api/tokens/")
	for _, c := range []struct {
		streams int
		closed  bool
	}{{10, false}, {40, true}} {
		framer, _ := openHTTP2(t, strings.TrimPrefix(k.front, "http://"))
		for i := range c.streams {
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block, EndHeaders: true}); err != nil {
				break
			}
			if err := framer.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel); err != nil {
				break
			}
		}
		_ = framer.WritePing(false, [8]byte{'a', 'l', 'i', 'v', 'e'})
		closed := false
		for answered := false; !closed && !answered; {
			frame, err := framer.ReadFrame()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("neither closed nor answered")
			}
			ping, isPing := frame.(*http2.PingFrame)
			_, isGoAway := frame.(*http2.GoAwayFrame)
			closed, answered = err != nil || isGoAway, isPing && ping.IsAck()
		}
		if closed != c.closed {
			t.Errorf("after %d resets the connection was closed: %v, want %v", c.streams, closed, c.closed)
		}
	}
}

// A client that opens more streams than it may is refused those.
func TestAttackManyStreams(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	framer, _ := openHTTP2(t, s.grpc)
	const excess = 10
	block := headerBlock("/envoy.service.auth.v3.Authorization/Check")
	var sending errgroup.Group
	sending.Go(func() error {
		for i := range maxChecksUnderWay + excess {
			// No message follows, so that each Check stays under way.
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block, EndHeaders: true}); err != nil {
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
