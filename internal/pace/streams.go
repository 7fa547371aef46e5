package pace

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// freeStreams is how many a connection opens before anything is asked of
	// it: its first call is to be read as a whole, whatever else its address
	// has done.
	freeStreams = 16
	// unknownPerSecond is how many streams a second the connections of one
	// address open that had no answer yet.
	unknownPerSecond = 2000
	// unknownRead is how many bytes are read of such a connection at a time, the
	// first time, too: twenty to seventy streams. Those of a whole buffer take a
	// processor for milliseconds, for which others would wait.
	unknownRead = 2 << 10
	// knownPerSecond is how many streams a second a connection leaves without
	// an answer once it had one: more than a worker of Envoy can forward,
	// which takes some 70 µs for each, so that one whose clients reset all
	// that they open is not slowed down for those who do not.
	knownPerSecond = 20_000
)

// StreamsOptions say how many streams without an answer there may be. The zero
// value is useful.
type StreamsOptions struct {
	// UnknownPerSecond is how many streams all connections of one address may
	// open a second, and at once, that were not answered anything yet. The
	// first sixteen of each connection do not count. Zero: 2,000.
	UnknownPerSecond int
	// KnownPerSecond is how many streams a connection may open a second, and
	// at once, beyond those that were answered. Zero: 20,000.
	KnownPerSecond int
	// Slowed hears of a connection that has to wait, the first time. It must
	// return soon. Nil: nobody does.
	Slowed func(from net.Addr)
}

// Streams bounds how fast connections open streams that are never answered.
// Its methods may be called by several goroutines.
type Streams struct {
	options StreamsOptions
	unknown *Shares
	slowed  atomic.Uint64
	waits   atomic.Uint64
}

// NewStreams returns bounds for the connections of one server.
func NewStreams(o StreamsOptions) *Streams {
	if o.UnknownPerSecond <= 0 {
		o.UnknownPerSecond = unknownPerSecond
	}
	if o.KnownPerSecond <= 0 {
		o.KnownPerSecond = knownPerSecond
	}
	return &Streams{options: o, unknown: NewShares(o.UnknownPerSecond, o.UnknownPerSecond)}
}

// StreamsStats are counts since the start.
type StreamsStats struct {
	Slowed uint64 // connections that had to wait
	Waits  uint64 // times that they had to
}

// Stats returns the counts.
func (s *Streams) Stats() StreamsStats {
	return StreamsStats{Slowed: s.slowed.Load(), Waits: s.waits.Load()}
}

// Wrap returns conn, which must speak HTTP/2 without encryption of its own and
// from its first byte on, as one whose Read waits while it has left too many
// streams without an answer. One goroutine may read at a time, and one write.
func (s *Streams) Wrap(conn net.Conn) net.Conn {
	return &streamsConn{
		Conn: conn, streams: s, from: Address(conn), in: frames{skip: prefaceLength},
		known: make(chan struct{}), closed: make(chan struct{}),
	}
}

type streamsConn struct {
	net.Conn
	streams *Streams
	from    netip.Addr

	// Of who reads.
	in      frames
	opened  int64     // streams
	asked   int64     // of them, those that the address was asked for
	granted int64     // of those without an answer, the ones that time has paid for
	at      time.Time // until when it has; zero: it is not known to be answered
	told    bool      // that it was slowed down

	// Of who writes.
	out frames

	answered  atomic.Int64  // streams that the server has ended
	known     chan struct{} // closed once a stream was answered something
	knownOnce sync.Once
	closed    chan struct{}
	closeOnce sync.Once
}

// Read reads when the connection may open more streams.
func (c *streamsConn) Read(p []byte) (int, error) {
	for {
		wait := c.due()
		if wait <= 0 {
			break
		}
		if !c.wait(wait) {
			return 0, net.ErrClosed
		}
	}
	if c.at.IsZero() {
		p = p[:min(len(p), unknownRead)]
	}
	n, err := c.Conn.Read(p)
	c.opened += int64(c.in.follow(p[:n]).headers)
	return n, err
}

// Write notes which streams are answered.
func (c *streamsConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	s := c.out.follow(p[:n])
	if s.ends > 0 {
		c.answered.Add(int64(s.ends))
	}
	if s.data > 0 {
		c.knownOnce.Do(func() { close(c.known) })
	}
	return n, err
}

// Close ends a Read that waits as well.
func (c *streamsConn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// due returns for how long to wait before more is read.
func (c *streamsConn) due() time.Duration {
	if !c.at.IsZero() {
		return c.dueOfKnown()
	}
	if c.opened <= freeStreams {
		return 0
	}
	select {
	case <-c.known:
		// What it did before is forgotten: it may have opened many at once.
		c.granted, c.at = c.opened-c.answered.Load(), time.Now()
		return 0
	default:
	}
	n := c.opened - max(c.asked, freeStreams)
	if n == 0 {
		return 0
	}
	c.asked = c.opened
	return c.streams.unknown.Take(c.from, int(n), time.Now())
}

func (c *streamsConn) dueOfKnown() time.Duration {
	perSecond := int64(c.streams.options.KnownPerSecond)
	open := c.opened - c.answered.Load()
	if open-c.granted <= perSecond {
		return 0 // which takes no clock
	}
	now := time.Now()
	each := time.Second / time.Duration(perSecond)
	paid := int64(now.Sub(c.at) / each)
	c.at = c.at.Add(time.Duration(paid) * each)
	c.granted = min(open, c.granted+paid)
	return time.Duration(open-c.granted-perSecond) * each
}

// wait returns whether the connection is still open, after some time or once
// it was answered.
func (c *streamsConn) wait(most time.Duration) bool {
	c.streams.waits.Add(1)
	if !c.told {
		c.told = true
		c.streams.slowed.Add(1)
		if tell := c.streams.options.Slowed; tell != nil {
			tell(c.RemoteAddr())
		}
	}
	known := c.known
	if !c.at.IsZero() {
		known = nil // it has been for long
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-known:
	case <-c.closed:
		return false
	}
	return true
}
