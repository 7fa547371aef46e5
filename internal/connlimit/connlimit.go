// Package connlimit bounds how many connections a listener has open.
//
//	listener = connlimit.New(listener, connlimit.Options{Max: 4096, Refused: func(from net.Addr) {
//		logger.Warn("too many connections", "from", from)
//	}})
//
// A connection over the limit is closed at once, so that its client learns of
// it and so that those that wait to be accepted are no queue that can fill up.
// One address gets no more than its share: a client that opens all it can
// leaves room for others. Nor does it get there faster: those that it opens one
// after the other, as soon as the last was closed, are read a moment later each.
package connlimit

import (
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/internal/pace"
)

// What one address opens a second, and at once, before its connections have to
// wait: more than browsers and programs do that keep connections open, and
// about what a shell can that starts a program for each call.
const (
	newPerSecond = 200
	newAtOnce    = 50
)

// mostDelay is for how long a new connection waits at the most, since it may be
// that of a health check which gives up after a second.
const mostDelay = 500 * time.Millisecond

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
	// Slowed hears of connections that have to wait before they are read, of
	// one in each second. Nil: nobody does.
	Slowed func(from net.Addr)
}

// Listener is what [New] makes of one.
type Listener struct {
	net.Listener
	options Options
	opening *pace.Shares
	slowed  atomic.Uint64
	refused atomic.Uint64

	mu    sync.Mutex
	total int
	open  map[netip.Addr]int
}

// OnceASecond returns what calls f in each second once, and passes over other
// calls.
func OnceASecond(f func(from net.Addr)) func(from net.Addr) {
	var told atomic.Int64
	return func(from net.Addr) {
		now := time.Now().Unix()
		if last := told.Load(); last != now && told.CompareAndSwap(last, now) {
			f(from)
		}
	}
}

// New returns a listener that passes on what inner accepts, up to a limit. A
// connection beyond 50 at once and 200 a second from one IP address is read
// later, by half a second at the most; of many at once, none with all others.
func New(inner net.Listener, o Options) *Listener {
	if o.Max <= 0 {
		o.Max = math.MaxInt
	}
	if o.PerAddress <= 0 {
		o.PerAddress = max(1, o.Max/2)
	}
	for _, told := range []*func(net.Addr){&o.Refused, &o.Slowed} {
		if *told == nil {
			*told = func(net.Addr) {}
		}
		*told = OnceASecond(*told)
	}
	return &Listener{Listener: inner, options: o, opening: pace.NewShares(newPerSecond, newAtOnce), open: map[netip.Addr]int{}}
}

// Stats are counts since the start.
type Stats struct {
	Refused uint64 // connections that were closed at once
	Slowed  uint64 // connections that had to wait
}

// Stats returns the counts.
func (l *Listener) Stats() Stats { return Stats{Refused: l.refused.Load(), Slowed: l.slowed.Load()} }

// Accept waits for the next connection that is let in.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		accepted, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := pace.Address(accepted)
		if !l.take(from) {
			_ = accepted.Close()
			l.refused.Add(1)
			l.options.Refused(accepted.RemoteAddr())
			continue
		}
		c := &conn{Conn: accepted, closed: make(chan struct{}), free: func() { l.free(from) }}
		if from.IsValid() {
			now := time.Now()
			if wait := l.opening.Take(from, 1, now); wait > 0 {
				c.due = now.Add(bounded(wait))
				l.slowed.Add(1)
				l.options.Slowed(accepted.RemoteAddr())
			}
		}
		return c, nil
	}
}

// bounded returns wait where it is short enough. Those that a flood opens, and
// that should wait for longer, are not to be read all at the same time.
func bounded(wait time.Duration) time.Duration {
	if wait <= mostDelay {
		return wait
	}
	return mostDelay - rand.N(mostDelay*4/5)
}

func (l *Listener) take(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.options.Max || from.IsValid() && l.open[from] >= l.options.PerAddress {
		return false
	}
	l.total++
	l.open[from]++
	return true
}

func (l *Listener) free(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// conn waits before it is first read, and gives its place back when it is
// closed.
type conn struct {
	net.Conn
	due    time.Time // zero: it has not to wait, or has waited
	closed chan struct{}
	once   sync.Once
	free   func()
}

func (c *conn) Read(p []byte) (int, error) {
	if !c.due.IsZero() {
		timer := time.NewTimer(time.Until(c.due))
		defer timer.Stop()
		select {
		case <-timer.C:
			c.due = time.Time{}
		case <-c.closed:
			return 0, net.ErrClosed
		}
	}
	return c.Conn.Read(p)
}

func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.free()
	})
	return c.Conn.Close()
}
