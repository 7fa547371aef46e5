package pace

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reset is what opens and resets a stream.
func reset() []byte {
	var wire bytes.Buffer
	framer := http2.NewFramer(&wire, nil)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}, EndHeaders: true})
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	return wire.Bytes()
}

// answer is what answers one: with a message, or an error only.
func answer(message bool) []byte {
	var wire bytes.Buffer
	framer := http2.NewFramer(&wire, nil)
	if message {
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true})
		_ = framer.WriteData(1, false, []byte("message"))
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
	return wire.Bytes()
}

// server is the server's side of a connection whose client sends streams as
// fast as they are read.
type server struct {
	conn   net.Conn
	client net.Conn
	read   int // streams
}

// flooded returns servers of so many connections from one address, that read
// until they are closed.
func flooded(t *testing.T, s *Streams, n int, each func(i int, conn net.Conn)) []*server {
	t.Helper()
	all := make([]*server, n)
	for i := range all {
		ours, theirs := net.Pipe()
		one := &server{conn: s.Wrap(ours), client: theirs}
		all[i] = one
		t.Cleanup(func() { _ = one.conn.Close(); _ = theirs.Close() })
		go func() {
			_, err := io.WriteString(theirs, http2.ClientPreface)
			for err == nil {
				_, err = theirs.Write(reset())
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			buffer := make([]byte, len(reset())) // of one stream at a time
			if _, err := io.ReadFull(one.conn, make([]byte, prefaceLength)); err != nil {
				return
			}
			for one.read < 250_000/n { // more than any bound
				if _, err := io.ReadFull(one.conn, buffer); err != nil {
					return
				}
				one.read++
				if each != nil {
					each(one.read, one.conn)
				}
				if one.read%100 == 0 {
					time.Sleep(time.Microsecond) // no server takes no time
				}
			}
		}()
	}
	return all
}

// Connections that open streams and reset them are read as fast as their
// address, or each of them, may open some, whatever they do; those whose
// streams are answered are not slowed down.
func TestAttackResets(t *testing.T) {
	message, failure := answer(true), answer(false)
	const seconds = 5
	for _, c := range []struct {
		name        string
		connections int
		each        func(i int, conn net.Conn)
		least, most int
		slowed      uint64
	}{
		{"never answered", 1, nil, 2000 * seconds, freeStreams + 2000*(seconds+1) + 1, 1},
		{"on many connections", 50, nil, 2000 * seconds, 50*freeStreams + 2000*(seconds+1) + 50, 50},
		{"answered with errors only", 1, func(_ int, conn net.Conn) { _, _ = conn.Write(failure) }, 2000 * seconds, freeStreams + 2000*(seconds+1) + 1, 1},
		{"answered once", 1, func(i int, conn net.Conn) {
			if i == 1 {
				_, _ = conn.Write(message)
			}
		}, 20_000 * seconds, freeStreams + 20_000*(seconds+1) + 2, 1},
		{"one in a hundred is answered", 1, func(i int, conn net.Conn) {
			if i%100 == 1 {
				_, _ = conn.Write(message)
			}
		}, 20_000 * seconds, freeStreams + 20_000*(seconds+1)*100/99 + 100, 1},
		{"all are answered", 1, func(_ int, conn net.Conn) { _, _ = conn.Write(message) }, 100_000, 1 << 40, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told atomic.Int64
				s := NewStreams(StreamsOptions{Slowed: func(net.Addr) { told.Add(1) }})
				if c.slowed == 0 { // nothing but this ends it
					count := 0
					inner := c.each
					c.each = func(i int, conn net.Conn) {
						if inner(i, conn); i == c.least {
							count = i
							_ = conn.Close()
						}
					}
					all := flooded(t, s, 1, c.each)
					time.Sleep(seconds * time.Second)
					if synctest.Wait(); count != c.least || told.Load() != 0 || s.Stats() != (StreamsStats{}) || all[0].read != count {
						t.Errorf("%d streams were read, told %d times: %+v", count, told.Load(), s.Stats())
					}
					return
				}
				all := flooded(t, s, c.connections, c.each)
				time.Sleep(seconds * time.Second)
				synctest.Wait()
				read := 0
				for _, one := range all {
					read += one.read
				}
				if read < c.least || read > c.most {
					t.Errorf("%d streams were read in %d s, want %d to %d", read, seconds, c.least, c.most)
				}
				if got := s.Stats(); got.Slowed != c.slowed || got.Waits < got.Slowed || told.Load() != int64(c.slowed) {
					t.Errorf("told of %d connections, %+v, want %d", told.Load(), got, c.slowed)
				}
				for _, one := range all {
					_ = one.conn.Close() // one that waits as well
					_ = one.client.Close()
				}
				time.Sleep(time.Millisecond) // until all have ended
			})
		})
	}
}

// A connection of an address that has used up its share is read at once after
// its first answer, and its first streams are read whatever else there was.
func TestOneAmongFloods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams(StreamsOptions{})
		s.unknown.Take(netip.Addr{}, 1<<20, time.Now()) // connections of a pipe have no address
		began := time.Now()
		message := answer(true)
		done := make(chan time.Duration, 1)
		ours, theirs := net.Pipe()
		conn := s.Wrap(ours)
		defer conn.Close()
		defer theirs.Close()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		go func() {
			_, _ = io.WriteString(theirs, http2.ClientPreface)
			for range 3 * freeStreams {
				_, _ = theirs.Write(reset())
			}
		}()
		go func() {
			_, _ = io.ReadFull(conn, make([]byte, prefaceLength+(freeStreams+1)*len(reset())))
			go func() {
				time.Sleep(time.Millisecond) // it is answered while nothing is read
				_, _ = conn.Write(message)
			}()
			_, _ = io.ReadFull(conn, make([]byte, (2*freeStreams-1)*len(reset())))
			done <- time.Since(began)
		}()
		if took := <-done; took != time.Millisecond {
			t.Errorf("it was read after %v, want 1ms", took)
		}
	})
}

// What a connection sends before it was answered is read in pieces, from the
// first on, so that others have their turn in between; later it is not.
func TestPieces(t *testing.T) {
	s := NewStreams(StreamsOptions{})
	ours, theirs := net.Pipe()
	defer theirs.Close()
	conn := s.Wrap(ours)
	defer conn.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	send := func(text string) {
		go func() { _, _ = io.WriteString(theirs, text) }()
	}
	const buffer = 32 << 10
	first := http2.ClientPreface + string(bytes.Repeat(reset(), 200)) // more than are free
	send(first)
	for sent := len(first); sent > 0; {
		n, err := conn.Read(make([]byte, buffer))
		if err != nil || n > unknownRead {
			t.Fatalf("read %d bytes: %v, want at most %d", n, err, unknownRead)
		}
		sent -= n
	}
	send(string(bytes.Repeat(reset(), 2*unknownRead/len(reset()))))
	if n, err := conn.Read(make([]byte, buffer)); err != nil || n != unknownRead {
		t.Errorf("read %d bytes: %v, want %d", n, err, unknownRead)
	}
	if _, err := conn.Write(answer(true)); err != nil {
		t.Fatal(err)
	}
	for {
		n, err := conn.Read(make([]byte, buffer))
		if err != nil {
			t.Fatal(err)
		}
		if n < unknownRead { // the rest of what was sent
			break
		}
	}
	all := bytes.Repeat(reset(), 100)
	send(string(all))
	if n, err := conn.Read(make([]byte, buffer)); err != nil || n != min(len(all), buffer) {
		t.Errorf("after an answer %d bytes were read: %v, want all %d", n, err, len(all))
	}
}

// Closing ends a Read that waits.
func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStreams(StreamsOptions{UnknownPerSecond: 1})
		all := flooded(t, s, 1, nil)
		synctest.Wait()
		if got := s.Stats().Waits; got != 1 {
			t.Fatalf("waits %d times, want 1", got)
		}
		result := make(chan error, 1)
		ours, theirs := net.Pipe()
		defer theirs.Close()
		conn := s.Wrap(ours)
		go func() {
			_, _ = io.WriteString(theirs, http2.ClientPreface+string(bytes.Repeat(reset(), 100)))
		}()
		go func() {
			_, _ = conn.Read(make([]byte, 4096))
			_, err := conn.Read(make([]byte, 4096))
			result <- err
		}()
		synctest.Wait()
		_ = conn.Close()
		if err := <-result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("it ended with %v", err)
		}
		_ = all[0].conn.Close()
		_ = all[0].client.Close()
	})
}
