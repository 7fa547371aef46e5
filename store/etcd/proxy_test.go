package etcd_test

import (
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy stands between a replica and the members of a cluster. What is cut does
// not end: it just brings nothing any more, until it is healed.
type proxy struct {
	Endpoints []string

	mu       sync.Mutex
	healed   *sync.Cond
	requests bool // cut
	answers  bool // cut
	closed   bool
	open     map[net.Conn]struct{}
}

func newProxy(t testing.TB, endpoints []string) *proxy {
	t.Helper()
	p := &proxy{open: map[net.Conn]struct{}{}}
	p.healed = sync.NewCond(&p.mu)
	var work sync.WaitGroup
	var listeners []net.Listener
	for _, endpoint := range endpoints {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, listener)
		p.Endpoints = append(p.Endpoints, "http://"+listener.Addr().String())
		target := strings.TrimPrefix(endpoint, "http://")
		work.Go(func() {
			for {
				from, err := listener.Accept()
				if err != nil {
					return
				}
				work.Go(func() { p.serve(from, target) })
			}
		})
	}
	t.Cleanup(func() {
		for _, listener := range listeners {
			_ = listener.Close()
		}
		p.mu.Lock()
		p.closed = true
		for conn := range p.open {
			_ = conn.Close()
		}
		p.mu.Unlock()
		p.healed.Broadcast()
		work.Wait()
	})
	return p
}

func (p *proxy) serve(from net.Conn, target string) {
	defer from.Close()
	to, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer to.Close()
	p.mu.Lock()
	p.open[from], p.open[to] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(to, from, &p.requests) })
	both.Go(func() { p.copy(from, to, &p.answers) })
	both.Wait()
	p.mu.Lock()
	delete(p.open, from)
	delete(p.open, to)
	p.mu.Unlock()
}

func (p *proxy) copy(to, from net.Conn, cut *bool) {
	defer to.Close()
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for *cut && !p.closed {
			p.healed.Wait()
		}
		p.mu.Unlock()
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

// Cut lets nothing through.
func (p *proxy) Cut() { p.set(true, true) }

// CutAnswers lets requests through, and no answers.
func (p *proxy) CutAnswers() { p.set(false, true) }

// Heal lets everything through, also what was held back.
func (p *proxy) Heal() { p.set(false, false) }

// Break ends all connections, and lets everything through those that follow.
func (p *proxy) Break() {
	p.mu.Lock()
	for conn := range p.open {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.Heal()
}

func (p *proxy) set(requests, answers bool) {
	p.mu.Lock()
	p.requests, p.answers = requests, answers
	p.mu.Unlock()
	p.healed.Broadcast()
}
