package connlimit_test

import (
	"net"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/internal/connlimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opener opens connections and tells whether they are let in.
type opener struct {
	t       *testing.T
	inner   net.Listener
	in      chan net.Conn
	refused chan net.Addr
	ended   chan struct{}
}

func open(t *testing.T, inner net.Listener, o connlimit.Options) *opener {
	t.Helper()
	p := &opener{t, inner, make(chan net.Conn), make(chan net.Addr, 100), make(chan struct{})}
	o.Refused = func(from net.Addr) { p.refused <- from }
	listener := connlimit.New(inner, o)
	go func() {
		defer close(p.ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.in <- conn
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-p.ended
	})
	return p
}

// dial opens a connection from an address; server is nil where it is refused.
func (p *opener) dial(from string) (client, server net.Conn) {
	p.t.Helper()
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	client, err := dialer.DialContext(p.t.Context(), p.inner.Addr().Network(), p.inner.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = client.Close() })
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = client.Read(make([]byte, 1)) // returns when it is closed, by either side
	}()
	select {
	case server = <-p.in:
		p.t.Cleanup(func() { _ = server.Close(); _ = client.Close(); <-closed })
		return client, server
	case <-closed:
		return client, nil
	}
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// One address gets its share and not more; all of them get no more than there
// is; who leaves makes room, once.
func TestAttackManyConnections(t *testing.T) {
	p := open(t, listen(t, "tcp", "127.0.0.1:0"), connlimit.Options{Max: 5, PerAddress: 3})
	var held []net.Conn
	for _, c := range []struct {
		from string
		want bool
	}{
		{"127.0.0.2", true}, {"127.0.0.2", true}, {"127.0.0.2", true}, {"127.0.0.2", false}, {"127.0.0.2", false},
		{"127.0.0.3", true}, {"127.0.0.3", true}, {"127.0.0.3", false}, {"127.0.0.4", false},
	} {
		_, server := p.dial(c.from)
		if (server != nil) != c.want {
			t.Fatalf("the %d. connection, from %s: let in: %v", len(held), c.from, server != nil)
		}
		if server != nil {
			held = append(held, server)
		}
	}
	for range 3 { // closing again frees nothing
		_ = held[0].Close()
	}
	if _, server := p.dial("127.0.0.4"); server == nil {
		t.Error("there is no room after one has left")
	}
	if _, server := p.dial("127.0.0.5"); server != nil {
		t.Error("one that left twice made room for two")
	}
	if len(p.refused) == 0 {
		t.Error("no refusal was told")
	}
}

// By default one address gets half; a Unix socket has no addresses.
func TestDefaults(t *testing.T) {
	p := open(t, listen(t, "tcp", "127.0.0.1:0"), connlimit.Options{Max: 4})
	u := open(t, listen(t, "unix", filepath.Join(t.TempDir(), "s")), connlimit.Options{Max: 2, PerAddress: 1})
	for i, want := range []bool{true, true, false} {
		if _, server := p.dial("127.0.0.2"); (server != nil) != want {
			t.Errorf("TCP connection %d: let in: %v", i, server != nil)
		}
		if _, server := u.dial(""); (server != nil) != want {
			t.Errorf("Unix connection %d: let in: %v", i, server != nil)
		}
	}
}
