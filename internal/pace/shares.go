// Package pace slows down clients that make much work for nothing, and nobody
// else.
//
//	streams := pace.NewStreams(pace.StreamsOptions{Slowed: func(from net.Addr) {
//		logger.Warn("many streams without an answer", "from", from)
//	}})
//	conn = streams.Wrap(conn) // one of an HTTP/2 server, after its TLS handshake
//
// Who opens a stream and resets it at once has a server read, begin and drop a
// call for a few dozen bytes, as often as it likes: the server's bound on
// streams at a time does not hold, since a stream that was reset is none. Such
// a connection is read more slowly. Its client's writes fill the buffers of
// both kernels and block, so it uses less of a machine as well, and nothing is
// refused to one that was slowed down by mistake.
package pace

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// mostDebt is for how long an address can have taken too much: after that it
// has paid.
const mostDebt = time.Minute

// Shares are what each address may take a second. An IPv6 network of 64 bits
// is one address, and so are all connections that have none, as those of a
// Unix socket. Its methods may be called by several goroutines.
type Shares struct {
	each  time.Duration // for how long one is paid
	burst time.Duration // what is there at first, in such time

	mu    sync.Mutex
	full  map[netip.Addr]time.Time // when all is there again
	swept time.Time
}

// sweepEvery is how often addresses that took nothing lately are forgotten.
const sweepEvery = time.Second

// NewShares lets each address take perSecond a second, and burst at once.
// Both must be above 0.
func NewShares(perSecond, burst int) *Shares {
	each := time.Second / time.Duration(perSecond)
	return &Shares{each: each, burst: each * time.Duration(burst), full: map[netip.Addr]time.Time{}}
}

// Take takes n of what an address has, and returns for how long its client
// should wait: until they would have been there, after those that were taken
// before.
func (s *Shares) Take(from netip.Addr, n int, now time.Time) time.Duration {
	from = network(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(now)
	full := s.full[from]
	if full.Before(now) {
		full = now
	}
	full = full.Add(s.each * time.Duration(n))
	if most := now.Add(s.burst + mostDebt); full.After(most) {
		full = most
	}
	s.full[from] = full
	return max(0, full.Sub(now)-s.burst)
}

// sweep forgets addresses to which all is there, so that only those are kept
// that took something within the last minute or so.
func (s *Shares) sweep(now time.Time) {
	if now.Sub(s.swept) < sweepEvery {
		return
	}
	s.swept = now
	for from, full := range s.full {
		if !full.After(now) {
			delete(s.full, from)
		}
	}
}

// network is what counts as one client.
func network(from netip.Addr) netip.Addr {
	if !from.Is6() {
		return from
	}
	return netip.PrefixFrom(from, 64).Masked().Addr()
}

// Address returns the IP address of a connection's peer; it is invalid where
// there is none.
func Address(conn net.Conn) netip.Addr {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}
