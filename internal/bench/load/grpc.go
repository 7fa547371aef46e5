//go:build linux

package load

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tokenkithq/authz/apikey"
)

// maxStreams keeps the calls under way on one connection within the 64 KiB
// that HTTP/2 lets be sent before the receiver has to say that it took them.
const maxStreams = 64

// window is how many streams of a connection are told apart, a power of two.
const window = 1 << 12

// grpcConn makes Check calls in frames that are written once: what a call
// costs here is little next to what it costs the service.
type grpcConn struct {
	conn   net.Conn
	in     *bufio.Reader
	out    []byte
	head   []byte // of a call: the HEADERS frame
	data   []byte // and the DATA frame
	keyAt  int    // where the key stands in data
	stream uint32 // the last one that was used
	calls  [window]call
	taken  int // bytes of data since the last window update
	shared *grpcLoop
}

type call struct {
	due    time.Time
	status int
}

// grpcLoop is what the connections of a job have in common.
type grpcLoop struct {
	mu sync.Mutex
	measured
	keys  *keys
	until time.Time
}

func runGRPC(j Job, keys *keys) (*Result, error) {
	l := &grpcLoop{measured: measured{job: j}, keys: keys}
	conns := make([]*grpcConn, j.Connections)
	for i := range conns {
		c, err := l.connect()
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", j.Address, err)
		}
		defer func() { _ = c.conn.Close() }()
		conns[i] = c
	}
	begin := time.Now().Add(j.Warmup)
	l.until = begin.Add(j.Duration)
	failed := make(chan error, len(conns))
	var running sync.WaitGroup
	for _, c := range conns {
		running.Go(func() {
			if err := c.run(); err != nil {
				failed <- fmt.Errorf("calling %s: %w", j.Address, err)
			}
		})
	}
	time.Sleep(time.Until(begin))
	l.mu.Lock()
	err := l.begin(time.Now())
	l.mu.Unlock()
	running.Wait()
	if err == nil {
		err = l.end(time.Now())
	}
	close(failed)
	for each := range failed {
		err = errors.Join(err, each)
	}
	if err != nil {
		return nil, err
	}
	return l.finish(), nil
}

func (l *grpcLoop) connect() (*grpcConn, error) {
	network := "tcp"
	if strings.HasPrefix(l.job.Address, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, l.job.Address) //nolint:noctx // on loopback
	if err != nil {
		return nil, err
	}
	c := &grpcConn{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), shared: l}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// prepare opens the connection and makes one call, with headers that the
// service is to remember. All others name them by what it remembers.
func (c *grpcConn) prepare() error {
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	const much = 1 << 30
	err := errors.Join(framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: much}), framer.WriteWindowUpdate(0, much))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	headers := func() []byte {
		block.Reset()
		for _, field := range [][2]string{
			{":method", "POST"}, {":scheme", "http"}, {":path", authv3.Authorization_Check_FullMethodName}, {":authority", "authz"},
			{"te", "trailers"}, {"grpc-timeout", "10S"}, {"content-type", "application/grpc"},
		} {
			err = errors.Join(err, encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}))
		}
		return block.Bytes()
	}
	placeholder := strings.Repeat("k", apikey.SecretLength)
	message, marshalErr := proto.Marshal(checkRequest(placeholder))
	err = errors.Join(err, marshalErr)
	body := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	body = append(body, message...)

	c.stream = 1
	at := bytes.Index(body, []byte(placeholder))
	c.shared.keys.put(body[at:])
	err = errors.Join(err, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(), EndHeaders: true}),
		framer.WriteData(1, true, body))
	if _, writeErr := c.conn.Write(out.Bytes()); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	out.Reset()
	err = errors.Join(err, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: headers(), EndHeaders: true}))
	c.head = bytes.Clone(out.Bytes())
	out.Reset()
	err = errors.Join(err, framer.WriteData(3, true, body))
	c.data = bytes.Clone(out.Bytes())
	c.keyAt = bytes.Index(c.data, body) + at
	return err
}

// checkRequest is a call as Envoy makes it.
func checkRequest(key string) *authv3.CheckRequest {
	peer := func(address string, port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}}}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer("127.0.0.1", 43210), Destination: peer("127.0.0.1", 10000),
		MetadataContext: &corev3.Metadata{}, RouteMetadataContext: &corev3.Metadata{},
		Request: &authv3.AttributeContext_Request{
			Time: &timestamppb.Timestamp{Seconds: 1_800_000_000, Nanos: 123456000},
			Http: &authv3.AttributeContext_HttpRequest{
				Id: "12345678901234567890", Method: "GET", Path: "/api/tokens/?common=true", Host: "api.tokenkithq.io", Scheme: "http", Protocol: "HTTP/1.1",
				Headers: map[string]string{"api-key": key, "x-forwarded-for": "127.0.0.1", "x-client-ip": "127.0.0.1"},
			},
		},
	}}
}

// run keeps calls under way until the job ends.
func (c *grpcConn) run() error {
	if err := c.conn.SetReadDeadline(c.shared.until.Add(drainTime)); err != nil {
		return err
	}
	for range c.shared.job.Streams - 1 {
		c.call(time.Now())
	}
	for {
		// What was called since is sent once there is nothing left to read.
		if c.in.Buffered() == 0 && len(c.out) > 0 {
			if _, err := c.conn.Write(c.out); err != nil {
				return err
			}
			c.out = c.out[:0]
		}
		ended, err := c.frame()
		if err != nil {
			return err
		}
		if ended {
			now := time.Now()
			if now.After(c.shared.until) {
				return nil
			}
			c.call(now)
		}
	}
}

func (c *grpcConn) call(now time.Time) {
	c.stream += 2
	c.calls[c.stream/2%window] = call{due: now, status: 500}
	c.shared.mu.Lock()
	c.shared.keys.put(c.data[c.keyAt:])
	c.shared.mu.Unlock()
	const streamAt = 5 // in the head of a frame
	binary.BigEndian.PutUint32(c.head[streamAt:], c.stream)
	binary.BigEndian.PutUint32(c.data[streamAt:], c.stream)
	c.out = append(append(c.out, c.head...), c.data...)
}

// frame reads a frame, and reports whether it ended a call.
func (c *grpcConn) frame() (bool, error) {
	head, err := http2.ReadFrameHeader(c.in)
	if err != nil {
		return false, err
	}
	// A frame is small next to the buffer.
	body, err := c.in.Peek(int(head.Length))
	if err != nil {
		return false, err
	}
	defer func() { _, _ = c.in.Discard(len(body)) }()
	at := &c.calls[head.StreamID/2%window]
	switch head.Type {
	case http2.FrameSettings:
		if !head.Flags.Has(http2.FlagSettingsAck) {
			c.out = append(c.out, 0, 0, 0, byte(http2.FrameSettings), byte(http2.FlagSettingsAck), 0, 0, 0, 0)
		}
	case http2.FramePing:
		if !head.Flags.Has(http2.FlagPingAck) {
			c.out = append(append(c.out, 0, 0, 8, byte(http2.FramePing), byte(http2.FlagPingAck), 0, 0, 0, 0), body...)
		}
	case http2.FrameGoAway:
		return false, fmt.Errorf("the connection is to be closed: %q", body)
	case http2.FrameRSTStream:
		at.status = 500
		return c.ended(at), nil
	case http2.FrameData:
		c.take(len(body))
		at.status = statusOf(body)
		if head.Flags.Has(http2.FlagDataEndStream) {
			return c.ended(at), nil
		}
	case http2.FrameHeaders:
		if head.Flags.Has(http2.FlagHeadersEndStream) {
			return c.ended(at), nil
		}
	}
	return false, nil
}

func (c *grpcConn) ended(at *call) bool {
	c.shared.mu.Lock()
	defer c.shared.mu.Unlock()
	c.shared.answered(at.due, time.Now(), at.status)
	return true
}

// take gives the service back what it may send.
func (c *grpcConn) take(n int) {
	const often = 1 << 20
	if c.taken += n; c.taken >= often {
		c.out = append(c.out, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0)
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(c.taken))
		c.taken = 0
	}
}

// statusOf reads from an answer, a message with the head that gRPC gives it,
// whether it allows: whether it begins with a Status whose code is OK. An
// answer without one allows too, as Envoy has it.
func statusOf(message []byte) int {
	const head = 5
	if len(message) < head {
		return 500
	}
	answer := &authv3.CheckResponse{}
	if message = message[head:]; len(message) >= 2 && message[0] == 0x0a && message[1] == 0 {
		return 200 // an empty Status, which is what is mostly seen
	}
	if err := proto.Unmarshal(message, answer); err != nil {
		return 500
	}
	if answer.GetStatus().GetCode() != 0 {
		return 403
	}
	return 200
}
