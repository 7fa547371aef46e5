package extauthz

import (
	"fmt"
	"io"
	"strconv"
	"sync"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// answer is a CheckResponse, or a part of one, as it is sent.
type answer []byte

// Format prints a placeholder whatever the verb.
func (*answer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[CheckResponse]") }

// add appends what was written before.
func (a *answer) add(fields []byte) { *a = append(*a, fields...) }

// open starts a field that holds a message or text of a length that is not
// known yet. What is added is its content, until [answer.shut] with the result.
func (a *answer) open(number protowire.Number) (at int) {
	*a = append(protowire.AppendTag(*a, number, protowire.BytesType), 0)
	return len(*a)
}

// shut ends the field whose content starts at.
func (a *answer) shut(at int) {
	b := *a
	length := uint64(len(b) - at)
	if length < 0x80 {
		b[at-1] = byte(length)
		return
	}
	// The length takes more than the one byte that was left for it.
	more := protowire.SizeVarint(length) - 1
	for range more {
		b = append(b, 0)
	}
	copy(b[at+more:], b[at:])
	protowire.AppendVarint(b[:at-1], length)
	*a = b
}

// text adds a field that holds a text.
func (a *answer) text(number protowire.Number, text string) {
	*a = protowire.AppendString(protowire.AppendTag(*a, number, protowire.BytesType), text)
}

// number adds a field that holds a number; 0 is not said.
func (a *answer) number(number protowire.Number, n int) {
	if n != 0 {
		*a = protowire.AppendVarint(protowire.AppendTag(*a, number, protowire.VarintType), uint64(n))
	}
}

// The fields that answers have, by message; a test holds them against the
// generated types.
const (
	fieldStatus, fieldDenied, fieldOK, fieldMetadata protowire.Number = 1, 2, 3, 4 // CheckResponse

	fieldStatusCode protowire.Number = 1 // google.rpc.Status, HttpStatus

	fieldDeniedStatus, fieldDeniedHeaders, fieldDeniedBody protowire.Number = 1, 2, 3 // DeniedHttpResponse

	fieldOKHeaders, fieldOKRemove, fieldOKResponseHeaders, fieldOKRemoveQuery protowire.Number = 2, 5, 6, 8 // OkHttpResponse

	fieldHeader, fieldHeaderAction    protowire.Number = 1, 3 // HeaderValueOption
	fieldHeaderName, fieldHeaderValue protowire.Number = 1, 2 // HeaderValue

	fieldStructFields, fieldEntryName, fieldEntryValue, fieldValueText, fieldValueStruct protowire.Number = 1, 1, 2, 3, 5 // Struct, Value
)

// header is a header whose name is written already.
type header struct {
	list protowire.Number // the field that lists it
	name []byte           // its name as a field
}

func newHeader(list protowire.Number, name string) header {
	var a answer
	a.text(fieldHeaderName, name)
	return header{list, a}
}

// openHeader starts a header, of which only the value is left to add, until
// [answer.shutHeader] with the result.
func (a *answer) openHeader(h header) (at [3]int) {
	at[0] = a.open(h.list)
	at[1] = a.open(fieldHeader)
	a.add(h.name)
	at[2] = a.open(fieldHeaderValue)
	return at
}

// shutHeader ends a header that is set whatever it was, which is said
// explicitly: left out, the action would be to append.
func (a *answer) shutHeader(at [3]int) {
	a.shut(at[2])
	a.shut(at[1])
	a.number(fieldHeaderAction, int(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	a.shut(at[0])
}

// overwrite sets a header whatever it was.
func (a *answer) overwrite(list protowire.Number, name, value string) {
	at := a.openHeader(newHeader(list, name))
	a.addString(value)
	a.shutHeader(at)
}

// append adds a header to those of its name.
func (a *answer) append(list protowire.Number, name, value string) {
	at := a.openHeader(newHeader(list, name))
	a.addString(value)
	a.shut(at[2])
	a.shut(at[1])
	a.number(fieldHeaderAction, int(corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
	a.shut(at[0])
}

// addInt adds a number in decimal digits.
func (a *answer) addInt(n int64) { *a = strconv.AppendInt(*a, n, 10) }

// addString adds a text.
func (a *answer) addString(text string) { *a = append(*a, text...) }

// entry adds a text to a Struct.
func (a *answer) entry(name, text string) {
	at := a.openEntry(name)
	a.addString(text)
	a.shutEntry(at)
}

// openEntry starts a text of a Struct, of which only the value is left to add,
// until [answer.shutEntry] with the result.
func (a *answer) openEntry(name string) (at [3]int) {
	at[0] = a.open(fieldStructFields)
	a.text(fieldEntryName, name)
	at[1] = a.open(fieldEntryValue)
	at[2] = a.open(fieldValueText)
	return at
}

func (a *answer) shutEntry(at [3]int) {
	for i := range at {
		a.shut(at[len(at)-1-i])
	}
}

// answers keeps the buffers of answers that were sent for those to come. gRPC
// uses only buffers of more than 1 KiB again.
type answers struct{ pool sync.Pool }

var _ mem.BufferPool = (*answers)(nil)

const answerSize = 2 << 10

// Get returns a buffer of a length.
func (p *answers) Get(length int) *[]byte {
	b, ok := p.pool.Get().(*[]byte)
	if !ok {
		b = new([]byte)
		*b = make([]byte, 0, max(length, answerSize))
	}
	if cap(*b) < length {
		*b = make([]byte, length)
	}
	*b = (*b)[:length]
	return b
}

// Put gives a buffer back.
func (p *answers) Put(b *[]byte) { p.pool.Put(b) }
