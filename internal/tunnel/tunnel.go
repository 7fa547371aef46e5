// Package tunnel stands between a program and a server in tests, and does what
// networks do: it swallows messages, delays them, and ends connections.
//
//	redis := tunnel.Open(t, server.Address)
//	connect(redis.Address)
//	redis.Cut()  // nothing passes, and nobody is told
//	redis.Heal() // what was held back arrives
//	redis.Delay(200 * time.Millisecond)
//
// Several servers of one kind are cut off together as [Tunnels].
package tunnel

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Tunnel is a TCP proxy on loopback. Everything passes until it is told
// otherwise. It is safe for concurrent use.
type Tunnel struct {
	Address string // host:port, for whoever connects
	target  string
	ended   chan struct{} // closed with the test

	mu      sync.Mutex // guards the rest
	changed *sync.Cond
	request direction
	answer  direction
	over    bool
	open    map[net.Conn]struct{}
}

// direction is one of the two ways.
type direction struct {
	cut   bool
	delay time.Duration
}

// Open opens a tunnel to a server, host:port, until the test ends.
func Open(t testing.TB, target string) *Tunnel {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
	if err != nil {
		t.Fatal(err)
	}
	n := &Tunnel{Address: listener.Addr().String(), target: target, ended: make(chan struct{}), open: map[net.Conn]struct{}{}}
	n.changed = sync.NewCond(&n.mu)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { n.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		close(n.ended)
		n.mu.Lock()
		n.over = true
		n.mu.Unlock()
		n.Break()
		all.Wait()
	})
	return n
}

// Cut lets nothing through, until it is healed.
func (n *Tunnel) Cut() { n.set(true, true) }

// CutAnswers lets requests through, and no answers.
func (n *Tunnel) CutAnswers() { n.set(false, true) }

// Heal lets everything through, also what was held back.
func (n *Tunnel) Heal() { n.set(false, false) }

// Delay holds back each message for so long from now on, in either direction.
func (n *Tunnel) Delay(each time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.request.delay, n.answer.delay = each, each
}

// Break ends all connections, and lets everything through those that follow.
func (n *Tunnel) Break() {
	n.mu.Lock()
	for conn := range n.open {
		_ = conn.Close()
	}
	n.mu.Unlock()
	n.Heal()
}

func (n *Tunnel) set(request, answer bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.request.cut, n.answer.cut = request, answer
	n.changed.Broadcast()
}

// pass waits while a direction is cut, and reports whether it goes on at all.
func (n *Tunnel) pass(d *direction) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for d.cut && !n.over {
		n.changed.Wait()
	}
	return !n.over
}

// keep notes an open connection, so that it ends with the test.
func (n *Tunnel) keep(conn net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		_ = conn.Close()
		return false
	}
	n.open[conn] = struct{}{}
	return true
}

func (n *Tunnel) drop(conn net.Conn) {
	_ = conn.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, conn)
}

func (n *Tunnel) serve(from net.Conn) {
	if !n.keep(from) {
		return
	}
	defer n.drop(from)
	if !n.pass(&n.request) {
		return
	}
	to, err := net.Dial("tcp", n.target) //nolint:noctx // loopback answers at once
	if err != nil || !n.keep(to) {
		return
	}
	defer n.drop(to)
	var both sync.WaitGroup
	both.Go(func() { n.carry(to, from, &n.request) })
	both.Go(func() { n.carry(from, to, &n.answer) })
	both.Wait()
}

// message is what was read at once, and when it may be passed on.
type message struct {
	bytes []byte
	due   time.Time
}

// carry passes one direction on until it ends, then ends the other.
func (n *Tunnel) carry(to, from net.Conn, d *direction) {
	var reading sync.WaitGroup
	defer reading.Wait()
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	const underWay = 256
	messages := make(chan message, underWay)
	reading.Go(func() {
		defer close(messages)
		buffer := make([]byte, 32<<10)
		for {
			size, err := from.Read(buffer)
			n.mu.Lock()
			due := time.Now().Add(d.delay)
			n.mu.Unlock()
			if size > 0 {
				select {
				case messages <- message{append([]byte(nil), buffer[:size]...), due}:
				case <-n.ended:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	for m := range messages {
		if wait := time.Until(m.due); wait > 0 {
			select {
			case <-time.After(wait):
			case <-n.ended:
			}
		}
		if !n.pass(d) {
			return
		}
		if _, err := to.Write(m.bytes); err != nil {
			return
		}
	}
}
