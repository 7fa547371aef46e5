package connlimit_test

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/internal/connlimit"
)

// pipes is a listener whose connections come from an address.
type pipes struct{ accept chan net.Conn }

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.accept
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { close(p.accept); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

type pipe struct {
	net.Conn
	from net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.from }

// dial opens a connection that has sent something, and returns the listener's
// side of it.
func (p pipes) dial(t *testing.T, l net.Listener, from net.Addr) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() {
		p.accept <- pipe{ours, from}
		_, _ = theirs.Write([]byte("x"))
		_ = theirs.Close()
	}()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Connections that an address opens one after the other are read at a bounded
// rate; others are not delayed by it, nor is one for longer than half a second.
func TestAttackOpeningConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pipes{make(chan net.Conn)}
		told := 0
		l := connlimit.New(p, connlimit.Options{Slowed: func(net.Addr) { told++ }})
		defer l.Close()
		one, other := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2)}
		read := func(from net.Addr) time.Duration {
			conn := p.dial(t, l, from)
			defer conn.Close()
			began := time.Now()
			for _, want := range []int{1, 0} { // it waits once
				if n, err := conn.Read(make([]byte, 1)); n != want || (err == nil) != (want == 1) {
					t.Fatalf("read %d bytes: %v", n, err)
				}
			}
			return time.Since(began)
		}
		began := time.Now()
		for range 50 + 3*200 {
			read(one)
		}
		if got := time.Since(began); got != 3*time.Second {
			t.Errorf("650 connections were read in %v, want 3s", got)
		}
		if got := read(other); got != 0 {
			t.Errorf("another address waits for %v", got)
		}
		if got := read(&net.UnixAddr{Name: "@", Net: "unix"}); got != 0 {
			t.Errorf("a Unix socket waits for %v", got)
		}
		if got := l.Stats(); got != (connlimit.Stats{Slowed: 600}) || told != 3 {
			t.Errorf("%+v, told %d times, want 600 that were slowed and 3 seconds", got, told)
		}

		var all []net.Conn
		for range 1000 { // at once
			all = append(all, p.dial(t, l, one))
		}
		began = time.Now()
		waits := make(chan time.Duration)
		for _, conn := range all {
			go func() {
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Error(err)
				}
				waits <- time.Since(began)
			}()
		}
		var within [11]int // by 50 ms
		for range all {
			within[min(<-waits/(50*time.Millisecond), 10)]++
		}
		// A hundred of them wait for as long as anybody, the rest for some time,
		// of which none is much more likely than another.
		for i, n := range within {
			if most := []int{70, 20, 200}[min(i, 2)]; n > most || i == 10 && n > 1 {
				t.Errorf("%d of 1000 are read between %d and %d ms, want at most %d: %v", n, i*50, i*50+50, most, within)
			}
		}
		ended := make(chan error)
		waiting := p.dial(t, l, one)
		go func() {
			_, err := waiting.Read(make([]byte, 1))
			ended <- err
		}()
		synctest.Wait()
		_ = waiting.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closing ended a Read with %v", err)
		}
		for _, conn := range all {
			_ = conn.Close()
		}
	})
}
