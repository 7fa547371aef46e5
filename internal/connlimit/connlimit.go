// Package connlimit bounds how many connections a listener has open.
//
//	listener = connlimit.New(listener, connlimit.Options{Max: 4096, Refused: func(from net.Addr) {
//		logger.Warn("too many connections", "from", from)
//	}})
//
// A connection over the limit is closed at once, so that its client learns of
// it and so that those that wait to be accepted are no queue that can fill up.
// One address gets no more than its share: a client that opens all it can
// leaves room for others.
package connlimit

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how many connections there may be.
type Options struct {
	// Max is how many connections may be open. Zero: any number.
	Max int
	// PerAddress is how many of them may be from one IP address. Connections
	// without one, as those of a Unix socket, count towards Max only. Zero:
	// half of Max.
	PerAddress int
	// Refused hears of connections that are refused, of one in each second.
	// Nil: nobody does.
	Refused func(from net.Addr)
}

// New returns a listener that passes on what inner accepts, up to a limit.
func New(inner net.Listener, o Options) net.Listener {
	if o.Max <= 0 {
		return inner
	}
	if o.PerAddress <= 0 {
		o.PerAddress = max(1, o.Max/2)
	}
	return &listener{Listener: inner, options: o, open: map[netip.Addr]int{}}
}

type listener struct {
	net.Listener
	options Options
	told    atomic.Int64 // the second in which Refused was last called

	mu    sync.Mutex
	total int
	open  map[netip.Addr]int
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(accepted)
		if l.take(from) {
			return &conn{Conn: accepted, free: sync.OnceFunc(func() { l.free(from) })}, nil
		}
		_ = accepted.Close()
		now := time.Now().Unix()
		if last := l.told.Load(); l.options.Refused != nil && last != now && l.told.CompareAndSwap(last, now) {
			l.options.Refused(accepted.RemoteAddr())
		}
	}
}

// addressOf is invalid where there is none.
func addressOf(c net.Conn) netip.Addr {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

func (l *listener) take(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.options.Max || from.IsValid() && l.open[from] >= l.options.PerAddress {
		return false
	}
	l.total++
	l.open[from]++
	return true
}

func (l *listener) free(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// conn gives its place back when it is closed.
type conn struct {
	net.Conn
	free func()
}

func (c *conn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
