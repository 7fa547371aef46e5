package main

import (
	"net"
	"sync"
	"testing"
)

// tunnel is a TCP proxy that can swallow everything, as a network does that is
// cut: nobody is told.
type tunnel struct {
	Address string
	target  string

	mu    sync.Mutex
	cond  *sync.Cond
	cut   bool
	ended bool
	conns map[net.Conn]struct{}
}

// dig opens a tunnel to a target until the test ends.
func dig(t testing.TB, target string) *tunnel {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tunnel{Address: listener.Addr().String(), target: target, conns: map[net.Conn]struct{}{}}
	p.cond = sync.NewCond(&p.mu)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(conn, &all) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		p.ended = true
		for conn := range p.conns {
			_ = conn.Close()
		}
		p.cond.Broadcast()
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

// Cut swallows all from now on, in both directions, until it is healed.
func (p *tunnel) Cut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	p.cond.Broadcast()
}

// pass waits while the tunnel is cut, and reports whether it goes on at all.
func (p *tunnel) pass() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut && !p.ended {
		p.cond.Wait()
	}
	return !p.ended
}

// keep notes an open connection, so that it ends with the test.
func (p *tunnel) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = struct{}{}
	return true
}

func (p *tunnel) drop(conn net.Conn) {
	_ = conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

func (p *tunnel) serve(from net.Conn, all *sync.WaitGroup) {
	if !p.keep(from) {
		return
	}
	defer p.drop(from)
	if !p.pass() {
		return
	}
	to, err := net.Dial("tcp", p.target)
	if err != nil || !p.keep(to) {
		return
	}
	defer p.drop(to)
	all.Go(func() {
		p.carry(from, to)
		_ = from.Close()
	})
	p.carry(to, from)
	_ = to.Close()
}

func (p *tunnel) carry(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if !p.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
