package extauthz

import (
	"context"
	"fmt"
	"io"
	"slices"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// NewGRPCServer returns a gRPC server that answers Checks as s does, at less
// cost than one that s is registered with by [Server.Register]: it reads from
// a Check only what a decision needs, and sends answers as they were written.
// Other services may be registered with it too; their messages are read and
// written as always. An option that sets another codec has no effect.
//
// Interceptors and stats handlers see a Check's request and answer as values
// that print as placeholders. A stats handler must not keep them.
func NewGRPCServer(s *Server, options ...grpc.ServerOption) *grpc.Server {
	codec := checkCodec{CodecV2: encoding.GetCodecV2(proto.Name), answers: &s.answers}
	g := grpc.NewServer(append(slices.Clip(options), grpc.ForceServerCodecV2(codec))...)
	service := authv3.Authorization_ServiceDesc
	service.Methods = []grpc.MethodDesc{{MethodName: "Check", Handler: handleCheck}}
	g.RegisterService(&service, s)
	return g
}

// checkCodec reads and writes the messages of a Check as [*wireCheck] and
// [*answer], and leaves all others to another codec.
type checkCodec struct {
	encoding.CodecV2
	answers *answers
}

// Unmarshal reads a message and keeps nothing of data.
func (c checkCodec) Unmarshal(data mem.BufferSlice, message any) error {
	check, ok := message.(*wireCheck)
	if !ok {
		return c.CodecV2.Unmarshal(data, message)
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return check.unmarshal(whole.ReadOnlyData())
}

// Marshal writes a message. The buffer of an answer returns to where it is
// from once it is sent.
func (c checkCodec) Marshal(message any) (mem.BufferSlice, error) {
	if a, ok := message.(*answer); ok {
		return mem.BufferSlice{mem.NewBuffer((*[]byte)(a), c.answers)}, nil
	}
	return c.CodecV2.Marshal(message)
}

// wireCheck is a Check that is read from the wire.
type wireCheck struct {
	view   view
	reader wireReader
	server *Server
}

func (s *Server) newCheck() *wireCheck {
	if check, ok := s.checks.Get().(*wireCheck); ok {
		return check
	}
	return &wireCheck{server: s}
}

func (s *Server) newAnswer() *answer { return (*answer)(s.answers.Get(0)) }

// free gives the check back for another, with nothing of this one in it.
func (c *wireCheck) free() {
	c.view.reset(&c.server.parser.wanted)
	c.server.checks.Put(c)
}

func (c *wireCheck) unmarshal(data []byte) error {
	return c.reader.read(&c.view, data, c.server.shape, &c.server.parser.wanted)
}

// Format prints a placeholder whatever the verb: there is a key in it.
func (*wireCheck) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[CheckRequest]") }

// handleCheck is the Check method of a server with a [checkCodec].
func handleCheck(service any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // gRPC's order
	s := service.(*Server) //nolint:forcetypeassert // it is registered by NewGRPCServer
	if interceptor == nil {
		check := s.newCheck()
		defer check.free()
		if err := decode(check); err != nil {
			return nil, err
		}
		return check.answer(ctx)
	}
	// An interceptor may return before what it called does: this check is not
	// used again.
	check := &wireCheck{server: s}
	if err := decode(check); err != nil {
		return nil, err
	}
	info := &grpc.UnaryServerInfo{Server: service, FullMethod: authv3.Authorization_Check_FullMethodName}
	return interceptor(ctx, check, info, func(ctx context.Context, _ any) (any, error) {
		return check.answer(ctx)
	})
}

func (c *wireCheck) answer(ctx context.Context) (any, error) {
	a := c.server.newAnswer()
	if err := c.server.answer(ctx, &c.view, a); err != nil {
		c.server.answers.Put((*[]byte)(a))
		return nil, err
	}
	return a, nil
}
