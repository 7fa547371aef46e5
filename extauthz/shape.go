package extauthz

import (
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shape says how the fields of a message lie on the wire, as far as a reader
// must know to accept and refuse what the generated decoder does.
type shape struct {
	fields []field // by number; the zero field is none
}

type field struct {
	kind   kind
	keep   keep
	fields *shape // of a message, or of a map's entries
}

// kind is how a field's value is read.
type kind uint8

const (
	kindOther kind = iota // a number, or not known: passed over by its wire type
	kindBytes
	kindText // must be valid UTF-8
	kindMessage
	kindMap
	kindTextMap // from text to text
)

// keep says what of a field the decision needs.
type keep uint8

const (
	keepNothing keep = iota
	keepMethod
	keepPath
	keepHost
	keepPeer       // the address of the connection's other end
	keepOtherPeer  // an address of another kind, which takes the place of keepPeer
	keepHeaders    // a map
	keepExtensions // a map
	keepRawHeader  // one entry of a list
	keepRawKey
	keepRawText
	keepRawBytes
)

// newCheckShape returns the shape of a CheckRequest, with the fields marked
// that a [view] is made of. It is made from the generated type's own
// description, so that a new version of it is followed by itself. An error
// names a field that cannot be read.
func newCheckShape() (*shape, error) {
	shapes := shaper{}
	descriptor := (*authv3.CheckRequest)(nil).ProtoReflect().Descriptor()
	check, err := shapes.of(descriptor)
	if err != nil {
		return nil, err
	}
	// What is kept belongs to a place, not to a type: a destination has an
	// address too. Each type on the way to a kept field gets a shape of its own.
	check = check.apart()
	attributes := check.part(1)
	source := attributes.part(1)
	address := source.part(1)
	for number := range address.fields {
		address.fields[number].keep = keepOtherPeer
	}
	socket := address.part(1)
	address.fields[1].keep = keepNothing
	socket.fields[2].keep = keepPeer
	attributes.fields[10].keep = keepExtensions
	http := attributes.part(4).part(2)
	http.fields[2].keep = keepMethod
	http.fields[3].keep = keepHeaders
	http.fields[4].keep = keepPath
	http.fields[5].keep = keepHost
	raw := http.part(13).part(1)
	http.fields[13].fields.fields[1].keep = keepRawHeader
	raw.fields[1].keep = keepRawKey
	raw.fields[2].keep = keepRawText
	raw.fields[3].keep = keepRawBytes
	return check, nil
}

// apart returns a copy whose fields may be marked.
func (s *shape) apart() *shape {
	return &shape{fields: append([]field(nil), s.fields...)}
}

// part sets the message of a field apart, and returns it.
func (s *shape) part(number int) *shape {
	f := &s.fields[number]
	f.fields = f.fields.apart()
	return f.fields
}

// shaper makes one shape of each type: types may hold themselves.
type shaper map[protoreflect.FullName]*shape

func (made shaper) of(message protoreflect.MessageDescriptor) (*shape, error) {
	if s, found := made[message.FullName()]; found {
		return s, nil
	}
	if message.ParentFile().Syntax() != protoreflect.Proto3 {
		return nil, fmt.Errorf("message %s: expected proto3", message.FullName())
	}
	s := &shape{}
	made[message.FullName()] = s
	all := message.Fields()
	for i := range all.Len() {
		descriptor := all.Get(i)
		f, err := made.field(descriptor)
		if err != nil {
			return nil, err
		}
		number := int(descriptor.Number())
		for len(s.fields) <= number {
			s.fields = append(s.fields, field{})
		}
		s.fields[number] = f
	}
	return s, nil
}

func (made shaper) field(descriptor protoreflect.FieldDescriptor) (f field, err error) {
	switch descriptor.Kind() {
	case protoreflect.BoolKind, protoreflect.EnumKind, protoreflect.FloatKind, protoreflect.DoubleKind,
		protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		f.kind = kindOther
	case protoreflect.BytesKind:
		f.kind = kindBytes
	case protoreflect.StringKind:
		f.kind = kindText
	case protoreflect.MessageKind:
		f.kind = kindMessage
		if descriptor.IsMap() {
			f.kind = kindMap
			if descriptor.MapKey().Kind() == protoreflect.StringKind && descriptor.MapValue().Kind() == protoreflect.StringKind {
				f.kind = kindTextMap
			}
		}
		f.fields, err = made.of(descriptor.Message())
	default:
		return f, fmt.Errorf("field %s: a %s cannot be read", descriptor.FullName(), descriptor.Kind())
	}
	if f.kind == kindOther && descriptor.IsList() { // may be packed
		return f, fmt.Errorf("field %s: a list of %s cannot be read", descriptor.FullName(), descriptor.Kind())
	}
	return f, err
}
