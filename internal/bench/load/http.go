//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tokenkithq/authz/apikey"
)

// drainTime is how long answers may take once no more requests are due.
const drainTime = 2 * time.Second

// httpConn is one connection, which has at most one request under way.
type httpConn struct {
	fd      int
	request []byte // with room for a key at keyAt
	keyAt   int
	due     time.Time // of the request under way; zero: idle
	got     []byte    // of its answer
}

// httpLoop makes requests from one thread: what it costs to make load differs
// little from one server to the next then.
type httpLoop struct {
	measured
	keys    *keys
	epoll   int
	conns   map[int32]*httpConn
	idle    []*httpConn // longest first
	waiting []time.Time // due, for want of an idle connection not yet sent
	random  *rand.Rand
	next    time.Time // when the next request is due, with a rate
	buffer  []byte
}

func runHTTP(j Job, keys *keys) (_ *Result, err error) {
	// Sleeps end on time only for a thread that asks for it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("setting the timer slack: %w", err)
	}
	l := &httpLoop{
		measured: measured{job: j}, keys: keys, conns: make(map[int32]*httpConn),
		random: rand.New(rand.NewPCG(j.Seed, 2)), buffer: make([]byte, 64<<10),
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making load: %w", err)
	}
	defer l.close()
	for range j.Connections {
		if err := l.connect(); err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", j.Address, err)
		}
	}
	if err := l.run(); err != nil {
		return nil, fmt.Errorf("making load on %s: %w", j.Address, err)
	}
	return l.finish(), nil
}

func (l *httpLoop) connect() error {
	conn, err := net.Dial("tcp", l.job.Address) //nolint:noctx // on loopback, and the loop that follows has no context either
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	// A copy of the socket, which the runtime does not poll.
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	placeholder := strings.Repeat("k", apikey.SecretLength)
	c := &httpConn{fd: fd, request: []byte("GET /api/tokens/?common=true HTTP/1.1\r\nHost: api.tokenkithq.io\r\n" +
		"User-Agent: bench\r\nAccept: */*\r\n" + l.job.Header + "Api-Key: " + placeholder + "\r\n\r\n")}
	c.keyAt = bytes.Index(c.request, []byte(placeholder))
	l.conns[int32(fd)] = c
	l.idle = append(l.idle, c)
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (l *httpLoop) close() {
	for _, c := range l.conns {
		_ = unix.Close(c.fd)
	}
	_ = unix.Close(l.epoll)
}

func (l *httpLoop) run() error {
	events := make([]unix.EpollEvent, l.job.Connections)
	start := time.Now()
	begin := start.Add(l.job.Warmup)
	end := begin.Add(l.job.Duration)
	l.next = start
	ended := false
	for {
		now := time.Now()
		if l.began.IsZero() && !now.Before(begin) {
			if err := l.begin(now); err != nil {
				return err
			}
		}
		if !ended && !now.Before(end) {
			ended = true
			if err := l.measured.end(now); err != nil {
				return err
			}
		}
		if ended && l.drained(now.Sub(end)) {
			return nil
		}
		until := end.Add(drainTime)
		if !ended {
			if err := l.send(now); err != nil {
				return err
			}
			until = end
			if l.began.IsZero() {
				until = begin
			}
			if l.job.Rate > 0 && l.next.Before(until) {
				until = l.next
			}
		}
		n, err := wait(l.epoll, events, time.Until(until))
		if err != nil {
			return err
		}
		for _, event := range events[:n] {
			if err := l.receive(l.conns[event.Fd]); err != nil {
				return err
			}
		}
	}
}

// drained reports whether no answer is missing, or no time is left; those that
// are missing have failed then. A closed loop does not wait for its last.
func (l *httpLoop) drained(past time.Duration) bool {
	if l.job.Rate == 0 {
		return true
	}
	missing := len(l.conns) - len(l.idle) + len(l.waiting)
	if missing > 0 && past < drainTime {
		_ = l.send(time.Time{}) // what was due already
		return false
	}
	l.result.Failed += missing
	return true
}

// wait is epoll_wait with a timeout in nanoseconds.
func wait(epoll int, events []unix.EpollEvent, timeout time.Duration) (int, error) {
	spec := unix.NsecToTimespec(int64(max(timeout, 0)))
	for {
		n, err := epollWait(epoll, events, &spec)
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// send sends what is due at now, as far as connections are idle.
func (l *httpLoop) send(now time.Time) error {
	if l.job.Rate == 0 {
		for _, c := range l.idle {
			if err := l.sendOn(c, now); err != nil {
				return err
			}
		}
		l.idle = l.idle[:0]
		return nil
	}
	for !l.next.After(now) {
		l.waiting = append(l.waiting, l.next)
		l.next = l.next.Add(time.Duration(l.random.ExpFloat64() / l.job.Rate * float64(time.Second)))
	}
	n := min(len(l.waiting), len(l.idle))
	for i := range n {
		if err := l.sendOn(l.idle[i], l.waiting[i]); err != nil {
			return err
		}
	}
	l.idle = append(l.idle[:0], l.idle[n:]...)
	l.waiting = append(l.waiting[:0], l.waiting[n:]...)
	return nil
}

func (l *httpLoop) sendOn(c *httpConn, due time.Time) error {
	l.keys.put(c.request[c.keyAt:])
	c.due, c.got = due, c.got[:0]
	n, err := unix.Write(c.fd, c.request)
	if err == nil && n < len(c.request) {
		err = io.ErrShortWrite // never of so little on an idle connection
	}
	return err
}

func (l *httpLoop) receive(c *httpConn) error {
	n, err := unix.Read(c.fd, l.buffer)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("the connection was closed after %q", c.got)
	}
	got := l.buffer[:n]
	if len(c.got) > 0 {
		c.got = append(c.got, got...)
		got = c.got
	}
	status, whole, err := parseAnswer(got)
	if err != nil {
		return err
	}
	if !whole {
		if len(c.got) == 0 {
			c.got = append(c.got, got...)
		}
		return nil
	}
	l.answered(c.due, time.Now(), status)
	l.idle = append(l.idle, c)
	return nil
}

// parseAnswer returns the status of an answer once all of it is there.
func parseAnswer(answer []byte) (status int, whole bool, err error) {
	head, body, found := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !found {
		return 0, false, nil
	}
	const start = "HTTP/1.1 200"
	if len(head) < len(start) || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, false, fmt.Errorf("answer %q: expected HTTP/1.1", head)
	}
	if status, err = strconv.Atoi(string(head[len(start)-3 : len(start)])); err != nil {
		return 0, false, fmt.Errorf("answer %q: expected a status", head)
	}
	_, rest, found := bytes.Cut(head, []byte("\r\ncontent-length: ")) // as Envoy spells it
	text, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.Atoi(string(text))
	if !found || err != nil {
		return 0, false, fmt.Errorf("answer %q: expected a content-length", head)
	}
	return status, len(body) >= length, nil
}
