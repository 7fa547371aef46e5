package extauthz

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"
)

// wireWants is what tests read from Checks.
func wireWants() *wanted {
	p := newParser(CredentialSources{Headers: []string{"api-key", "x-key"}, Bearer: true}, ClientAddress{Mode: AddressForwarded})
	p.observeRequests()
	return &p.wanted
}

func checkShape(t testing.TB) *shape {
	t.Helper()
	s, err := newCheckShape()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wireDiffers reads wire in both ways. It returns an error text unless both
// agree on whether it is a Check, and on what is in it.
func wireDiffers(r *wireReader, s *shape, wire []byte) string {
	w := wireWants()
	var got, want view
	check := &authv3.CheckRequest{}
	wantErr := proto.Unmarshal(wire, check)
	gotErr := r.read(&got, wire, s, w)
	if (gotErr != nil) != (wantErr != nil) {
		return "error " + errorText(gotErr) + ", the generated decoder's " + errorText(wantErr)
	}
	if wantErr != nil {
		return ""
	}
	want.read(check, w)
	if len(got.raw) == 0 && len(want.raw) == 0 {
		got.raw, want.raw = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		return "got another view than from the generated type"
	}
	return ""
}

func errorText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

// FuzzWire holds the reader of the wire against the generated decoder.
func FuzzWire(f *testing.F) {
	for _, wire := range wireSeeds(f) {
		f.Add(wire)
	}
	s := checkShape(f)
	f.Fuzz(func(t *testing.T, wire []byte) {
		var r wireReader
		if text := wireDiffers(&r, s, wire); text != "" {
			t.Error(text)
		}
		// What was read before leaves nothing behind.
		if text := wireDiffers(&r, s, wire[:len(wire)/2]); text != "" {
			t.Error(text)
		}
	})
}

func wireSeeds(t testing.TB) (seeds [][]byte) {
	t.Helper()
	for _, raw := range []bool{false, true} {
		check := checkOf(raw, "192.0.2.1", "/x?y", pair{"api-key", "a"}, pair{"origin", "https://a.example"}, pair{"API-KEY", "b"}, pair{"accept", "é"})
		check.Attributes.ContextExtensions = map[string]string{ExplainExtension: "true", "a": "b"}
		check.Attributes.Request.Http.Host = "api.example.io"
		check.Attributes.Destination = check.GetAttributes().GetSource()
		metadata, err := structpb.NewStruct(map[string]any{"a": []any{1, "b", nil, true, map[string]any{"c": "d"}}})
		if err != nil {
			t.Fatal(err)
		}
		check.Attributes.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"x": metadata}}
		wire := wireOf(t, check)
		seeds = append(seeds, wire, append(wire, wire...))
	}
	return seeds
}

// Every way in which the wire may be unusual, by name.
func TestWire(t *testing.T) {
	field := func(number protowire.Number, content ...[]byte) []byte {
		var all []byte
		for _, c := range content {
			all = append(all, c...)
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), all)
	}
	text := func(number protowire.Number, s string) []byte { return field(number, []byte(s)) }
	varint := func(number protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
	}
	group := func(number protowire.Number, content []byte) []byte {
		b := append(protowire.AppendTag(nil, number, protowire.StartGroupType), content...)
		return protowire.AppendTag(b, number, protowire.EndGroupType)
	}
	join := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	attributes := func(content ...[]byte) []byte { return field(1, content...) }
	http := func(content ...[]byte) []byte { return attributes(field(4, field(2, content...))) }
	header := func(name, value string) []byte { return field(3, text(1, name), text(2, value)) }
	source := func(content ...[]byte) []byte { return attributes(field(1, field(1, content...))) }
	socket := func(address string) []byte { return field(1, text(2, address)) }
	raw := func(content ...[]byte) []byte { return field(13, field(1, content...)) }
	nested := func(depth int, value ...byte) []byte {
		for range depth { // a list in a list in a metadata context
			value = field(6, field(1, value))
		}
		return attributes(field(11, field(1, text(1, "x"), field(2, field(1, text(1, "y"), field(2, value))))))
	}
	type want struct {
		fails              bool
		path, peer, origin string
		raw                string // values, joined
	}
	for _, c := range []struct {
		name string
		wire []byte
		want want
	}{
		{"nothing", nil, want{}},
		{"attributes twice", join(http(text(4, "/a"), header("origin", "o")), source(socket("1"))), want{path: "/a", origin: "o", peer: "1"}},
		{"path twice", http(text(4, "/a"), text(4, "/b")), want{path: "/b"}},
		{"path in two messages", join(http(text(4, "/a")), http(text(4, ""))), want{}},
		{"path of another wire type", http(text(4, "/a"), varint(4, 7)), want{path: "/a"}},
		{"request of another wire type", join(http(text(4, "/a")), attributes(varint(4, 7))), want{path: "/a"}},
		{"header twice", http(header("origin", "a"), header("origin", "b")), want{origin: "b"}},
		{"header name twice", http(field(3, text(1, "origin"), text(1, "x"), text(2, "a"))), want{}},
		{"header value twice", http(field(3, text(2, "a"), text(2, "b"), text(1, "origin"))), want{origin: "b"}},
		{"header without a value", http(header("origin", "a"), field(3, text(1, "origin"))), want{}},
		{"header without a name", http(field(3, text(2, "a"))), want{}},
		{"header with a value of another wire type", http(field(3, text(1, "origin"), text(2, "a"), varint(2, 1))), want{origin: "a"}},
		{"header with another field", http(field(3, text(1, "origin"), text(2, "a"), text(3, "\xff"))), want{origin: "a"}},
		{"header in other case", http(header("Origin", "a")), want{}},
		{"address twice", source(socket("1"), socket("2")), want{peer: "2"}},
		{"address merged", source(socket("1"), field(1, varint(3, 80))), want{peer: "1"}},
		{"pipe after the address", source(socket("1"), field(2, text(1, "/pipe"))), want{}},
		{"internal address after the address", source(socket("1"), field(3)), want{}},
		{"address after a pipe", source(socket("1"), field(2), field(1, varint(3, 80))), want{}},
		{"pipe of another wire type", source(socket("1"), varint(2, 1)), want{peer: "1"}},
		{"address of the destination", attributes(field(2, field(1, socket("1")))), want{}},
		{"raw headers", http(raw(text(1, "Origin"), text(3, "a")), raw(text(1, "origin"), text(2, "b")), raw(text(1, "x"), text(3, "c"))), want{raw: "a,b"}},
		{"raw header without a name", http(raw(text(3, "a"))), want{}},
		{"raw header, name last", http(raw(text(1, "x"), text(3, "a"), text(1, "api-key"))), want{raw: "a"}},
		{"raw header with the sign for kelvin", http(raw(text(1, "x-\u212aey"), text(3, "a"))), want{raw: "a"}},
		{"raw value that is no text", http(raw(text(1, "api-key"), text(3, "\xff"))), want{raw: "\xff"}},
		{"raw value of another wire type", http(raw(text(1, "api-key"), text(3, "a"), varint(3, 1))), want{raw: "a"}},
		{"raw header as text", http(raw(text(1, "api-key"), text(2, "a"))), want{raw: "a"}},
		{"raw header as text and bytes", http(raw(text(1, "api-key"), text(2, "a"), text(3, "b"))), want{raw: "b"}},
		{"raw header as text and no bytes", http(raw(text(1, "api-key"), text(2, "a"), text(3, ""))), want{raw: "a"}},
		{"one raw header after another", http(raw(text(1, "api-key"), text(3, "a")), raw(text(1, "api-key"), text(2, "b"))), want{raw: "a,b"}},
		{"unknown fields", join(text(99, "x"), http(varint(1<<20, 1), text(4, "/a")), protowire.AppendTag(nil, 3, protowire.Fixed32Type), []byte{1, 2, 3, 4}), want{path: "/a"}},
		{"unknown group", join(group(7, group(8, varint(1, 1))), http(text(4, "/a"))), want{path: "/a"}},
		{"known field as a group", join(group(1, nil), http(text(4, "/a"))), want{path: "/a"}},
		{"group not ended", protowire.AppendTag(nil, 7, protowire.StartGroupType), want{fails: true}},
		{"group ended by another", join(protowire.AppendTag(nil, 7, protowire.StartGroupType), protowire.AppendTag(nil, 8, protowire.EndGroupType)), want{fails: true}},
		{"end of no group", protowire.AppendTag(nil, 7, protowire.EndGroupType), want{fails: true}},
		{"end of no group in a header", http(field(3, protowire.AppendTag(nil, 1, protowire.EndGroupType))), want{fails: true}},
		{"field number 0", []byte{0x02, 0}, want{fails: true}},
		{"field number too large", append(binary.AppendUvarint(nil, 1<<32), 0), want{fails: true}},
		{"wire type 6", []byte{0x0e}, want{fails: true}},
		{"tag with needless bytes", append([]byte{0x8a, 0x80, 0x00}, attributes()[1:]...), want{}},
		{"tag cut off", []byte{0x80}, want{fails: true}},
		{"length cut off", []byte{0x0a, 0x80}, want{fails: true}},
		{"content cut off", []byte{0x0a, 0x02, 0x0a}, want{fails: true}},
		{"number too long", http(protowire.AppendTag(nil, 9, protowire.VarintType), []byte(strings.Repeat("\xff", 10)+"\x01")), want{fails: true}},
		{"path of bad text", http(text(4, "\xff")), want{fails: true}},
		{"bad text nobody wants", http(text(5, "a\xc0\x80")), want{fails: true}},
		{"bad text in a header nobody wants", http(header("x", "\xff")), want{fails: true}},
		{"bad text in a name", http(header("\xff", "x")), want{fails: true}},
		{"bad text in labels", attributes(field(2, header("a", "\xed\xa0\x80"))), want{fails: true}},
		{"bad text in metadata", attributes(field(11, field(1, text(1, "\xff")))), want{fails: true}},
		{"bad text in a raw name", http(raw(text(1, "\xff"))), want{fails: true}},
		{"bad text is replaced", http(text(4, "\xff"), text(4, "/")), want{fails: true}},
		{"body of any bytes", http(text(12, "\xff"), text(4, "/a")), want{path: "/a"}},
		{"nested deep", nested(1000), want{}},
		{"nested as deep as may be", nested(4996), want{}},
		{"nested too deep", nested(4997), want{fails: true}},
		{"a map as deep as may be", nested(4995, field(5, field(1))...), want{}},
		{"a map of another wire type too deep", nested(4996, field(5, varint(1, 1))...), want{fails: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, w := checkShape(t), wireWants()
			var r wireReader
			if text := wireDiffers(&r, s, c.wire); text != "" {
				t.Error(text)
			}
			var v view
			if err := r.read(&v, c.wire, s, w); err != nil {
				if !c.want.fails {
					t.Error(err)
				}
				return
			}
			got := want{path: v.path, peer: v.peer, origin: v.headers[w.headers.find([]byte("origin"))].value}
			var values []string
			for _, header := range v.raw {
				values = append(values, header.value)
			}
			got.raw = strings.Join(values, ",")
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// Whatever is made from the description of a Check, with mistakes here and
// there, is read as the generated decoder reads it.
func TestWireEqualsGenerated(t *testing.T) {
	s := checkShape(t)
	root := (*authv3.CheckRequest)(nil).ProtoReflect().Descriptor()
	var r wireReader
	valid, kept := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		// What matters lies deep: drawn from its own type, then wrapped as
		// it is in a Check, it is met often enough.
		wire := drawMessage(rt, root, 12)
		if rapid.Bool().Draw(rt, "request") {
			http := root.Fields().ByNumber(1).Message().Fields().ByNumber(4).Message().Fields().ByNumber(2).Message()
			inner := drawMessage(rt, http, 9)
			for _, number := range []protowire.Number{2, 4, 1} {
				inner = protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), inner)
			}
			wire = append(wire, inner...)
		}
		if rapid.IntRange(0, 9).Draw(rt, "cut") == 0 {
			wire = wire[:rapid.IntRange(0, len(wire)).Draw(rt, "length")]
		}
		if text := wireDiffers(&r, s, wire); text != "" {
			rt.Errorf("%s: %x", text, wire)
		}
		var v view
		if r.read(&v, wire, s, wireWants()) == nil {
			valid++
			if v.method != "" || v.path != "" || v.peer != "" || len(v.raw) > 0 || v.headers[0].present {
				kept++
			}
		}
	})
	if valid == 0 || kept == 0 {
		t.Errorf("%d messages were valid, %d held something", valid, kept)
	}
}

// drawMessage draws the wire form of a message, of which every field may be
// missing, repeated, unknown or of a wrong wire type.
func drawMessage(rt *rapid.T, message protoreflect.MessageDescriptor, depth int) (wire []byte) {
	if depth == 0 {
		return nil
	}
	for range rapid.IntRange(0, 4).Draw(rt, "fields") {
		f := message.Fields().Get(rapid.IntRange(0, message.Fields().Len()-1).Draw(rt, "field"))
		number := f.Number()
		kind := rapid.IntRange(0, 39).Draw(rt, "kind")
		switch {
		case kind == 0:
			number = protowire.Number(rapid.IntRange(1, 40).Draw(rt, "number"))
			wire = protowire.AppendVarint(protowire.AppendTag(wire, number, protowire.VarintType), rapid.Uint64().Draw(rt, "varint"))
		case kind == 1:
			wire = protowire.AppendFixed64(protowire.AppendTag(wire, number, protowire.Fixed64Type), 1)
		case kind == 2:
			wire = protowire.AppendFixed32(protowire.AppendTag(wire, number, protowire.Fixed32Type), 1)
		case kind == 3:
			wire = protowire.AppendTag(wire, number, protowire.StartGroupType)
			wire = append(wire, drawMessage(rt, message, 1)...)
			wire = protowire.AppendTag(wire, number, protowire.EndGroupType)
		case f.Message() != nil:
			wire = protowire.AppendBytes(protowire.AppendTag(wire, number, protowire.BytesType), drawMessage(rt, f.Message(), depth-1))
		case f.Kind() == protoreflect.StringKind || f.Kind() == protoreflect.BytesKind || kind == 4:
			text := rapid.SampledFrom([]string{"", "api-key", "API-Key", "x-key", "origin", "x-forwarded-for", ExplainExtension, "true", "10.0.0.1", "é", "\xff"}).Draw(rt, "text")
			if text == "\xff" && kind > 8 { // rarely: it spoils all
				text = "x"
			}
			wire = protowire.AppendString(protowire.AppendTag(wire, number, protowire.BytesType), text)
		default:
			wire = protowire.AppendVarint(protowire.AppendTag(wire, number, protowire.VarintType), rapid.Uint64().Draw(rt, "number"))
		}
	}
	return wire
}
