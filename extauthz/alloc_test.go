package extauthz

import (
	"context"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// measured is a Check that is answered again and again, by every rule.
type measured struct {
	*Server
	check *wireCheck
	codec checkCodec
	wire  mem.BufferSlice
}

func newMeasured(t testing.TB) *measured {
	t.Helper()
	server, err := newServed()
	if err != nil {
		t.Fatal(err)
	}
	m := &measured{
		Server: server, check: server.newCheck(),
		codec: checkCodec{CodecV2: encoding.GetCodecV2(proto.Name), answers: &server.answers},
		wire:  mem.BufferSlice{mem.SliceBuffer(wireOf(t, envoyCheck(t)))},
	}
	if err := m.codec.Unmarshal(m.wire, m.check); err != nil {
		t.Fatal(err)
	}
	return m
}

// decide takes what was read to a decision.
func (m *measured) decide(t testing.TB, ctx context.Context) {
	request, err := m.parser.parse(&m.check.view)
	if err != nil {
		t.Fatal(err)
	}
	if outcome, err := m.authorizer.Authorize(ctx, &request.Request); err != nil || !outcome.Allowed() {
		t.Fatal("denied")
	}
}

// handle takes a Check from the wire to the wire.
func (m *measured) handle(t testing.TB, ctx context.Context) {
	a, err := handleCheck(m.Server, ctx, func(check any) error { return m.codec.Unmarshal(m.wire, check) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := m.codec.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	sent.Free()
}

// An allowed request is decided without allocating: hash, key, scope, origin,
// limit and block.
func TestAuthorizeAllocatesNothing(t *testing.T) {
	m, ctx := newMeasured(t), t.Context()
	if n := testing.AllocsPerRun(1000, func() { m.decide(t, ctx) }); n != 0 {
		t.Errorf("%v allocations a decision", n)
	}
}

// From the wire to the wire, a Check allocates what was read, as one text, and
// gRPC's list of what is to be sent.
func TestCheckAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget on purpose under the race detector")
	}
	m, ctx := newMeasured(t), t.Context()
	if n := testing.AllocsPerRun(1000, func() { m.handle(t, ctx) }); n > 2 {
		t.Errorf("%v allocations a Check, want at most 2", n)
	}
}

// loop measures do, also by CPU time, which a busy machine changes less.
func loop(b *testing.B, do func()) {
	b.Helper()
	b.ReportAllocs()
	start, err := cpuTime()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		do()
	}
	end, err := cpuTime()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(end-start)/float64(b.N), "cpu-ns/op")
}

// A decision about what is in memory, without gRPC.
func BenchmarkAuthorize(b *testing.B) {
	m, ctx := newMeasured(b), b.Context()
	loop(b, func() { m.decide(b, ctx) })
}

// The same from the wire to the wire, in our way and in the generated types',
// and the two parts of ours that are no decision.
func BenchmarkCheck(b *testing.B) {
	m, ctx := newMeasured(b), b.Context()
	b.Run("wire", func(b *testing.B) { loop(b, func() { m.handle(b, ctx) }) })
	b.Run("generated", func(b *testing.B) {
		loop(b, func() {
			check := &authv3.CheckRequest{}
			if err := m.codec.Unmarshal(m.wire, check); err != nil {
				b.Fatal(err)
			}
			response, err := m.Check(ctx, check)
			if err != nil {
				b.Fatal(err)
			}
			sent, err := m.codec.Marshal(response)
			if err != nil {
				b.Fatal(err)
			}
			sent.Free()
		})
	})
	b.Run("read", func(b *testing.B) {
		loop(b, func() {
			if err := m.codec.Unmarshal(m.wire, m.check); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("respond", func(b *testing.B) {
		request, err := m.parser.parse(&m.check.view)
		if err != nil {
			b.Fatal(err)
		}
		outcome, err := m.authorizer.Authorize(ctx, &request.Request)
		if err != nil {
			b.Fatal(err)
		}
		var a answer
		loop(b, func() {
			a = a[:0]
			m.responder.respond(&a, &outcome, false, false)
		})
	})
}
