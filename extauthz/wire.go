package extauthz

import (
	"errors"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

var (
	errWire = errors.New("CheckRequest: the wire format is damaged")
	errText = errors.New("CheckRequest: expected strings of valid UTF-8")
	errDeep = errors.New("CheckRequest: messages are nested too deep")
)

// wireReader fills a [view] from the bytes of a CheckRequest. It accepts and
// refuses what the generated decoder does, merges what that merges, and keeps
// only what is wanted.
type wireReader struct {
	wanted *wanted
	data   []byte

	method, path, host, peer span
	headers                  []span // by the places of wanted.headers
	extensions               []span
	raw                      []rawSpan
	item                     rawItem // the entry of the list of headers that is read now
	unknown                  field
}

// span is a piece of the wire; one that ends at 0 is none.
type span struct{ start, end int }

// rawSpan is a [rawHeader] on the wire.
type rawSpan struct {
	place int
	value span
}

type rawItem struct{ key, text, raw span }

// read fills v with what is wanted of data, which it copies. On an error what
// is in v means nothing.
func (r *wireReader) read(v *view, data []byte, check *shape, w *wanted) error {
	r.wanted, r.data = w, data
	r.method, r.path, r.host, r.peer = span{}, span{}, span{}, span{}
	r.headers = noSpans(r.headers, len(w.headers))
	r.extensions = noSpans(r.extensions, len(w.extensions))
	r.raw = r.raw[:0]
	err := r.message(check, 0, len(data), protowire.DefaultRecursionLimit)
	if err == nil {
		r.fill(v)
	}
	r.data = nil // it is the caller's
	return err
}

func noSpans(all []span, n int) []span {
	if cap(all) < n {
		return make([]span, n)
	}
	all = all[:n]
	clear(all)
	return all
}

// fill copies what was found into v, as pieces of one string: the wire's
// buffer is used again, while what is in v may be held for longer.
func (r *wireReader) fill(v *view) {
	size := r.method.size() + r.path.size() + r.host.size() + r.peer.size()
	for _, s := range r.headers {
		size += s.size()
	}
	for _, s := range r.extensions {
		size += s.size()
	}
	for i := range r.raw {
		size += r.raw[i].value.size()
	}
	var text strings.Builder
	text.Grow(size)
	take := func(s span) string {
		start := text.Len()
		text.Write(r.data[s.start:s.end])
		return text.String()[start:]
	}
	v.reset(r.wanted)
	v.method, v.path, v.host, v.peer = take(r.method), take(r.path), take(r.host), take(r.peer)
	for i, s := range r.headers {
		if s.end > 0 {
			v.headers[i] = held{take(s), true}
		}
	}
	for i, s := range r.extensions {
		if s.end > 0 {
			v.extensions[i] = held{take(s), true}
		}
	}
	for i := range r.raw {
		v.raw = append(v.raw, rawHeader{r.raw[i].place, take(r.raw[i].value)})
	}
}

func (s span) size() int { return s.end - s.start }

// message reads the message of this shape that lies at data[at:end]. Like the
// generated decoder it takes a field of an unexpected wire type for one that it
// does not know, and passes over it.
func (r *wireReader) message(s *shape, at, end, depth int) error {
	if depth--; depth < 0 {
		return errDeep
	}
	for at < end {
		number, wire, n := consumeTag(r.data[at:end])
		if n < 0 {
			return errWire
		}
		at += n
		var f *field
		if int(number) < len(s.fields) {
			f = &s.fields[number]
		} else {
			f = &r.unknown
		}
		n, err := r.value(f, number, wire, at, end, depth)
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

// value reads the value of a field, which starts at data[at:end], and returns
// its length.
func (r *wireReader) value(f *field, number protowire.Number, wire protowire.Type, at, end, depth int) (n int, err error) {
	b := r.data[at:end]
	switch f.kind {
	case kindMap, kindTextMap:
		if depth <= 0 { // a map's entry counts, even one of the wrong type
			return 0, errDeep
		}
		fallthrough
	case kindBytes, kindText, kindMessage:
		if wire != protowire.BytesType {
			break
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return 0, errWire
		}
		return n, r.bytes(f, span{at + n - len(value), at + n}, depth)
	}
	if n = protowire.ConsumeFieldValue(number, wire, b); n < 0 {
		return 0, errWire
	}
	return n, nil
}

// bytes reads a field whose value is at.
func (r *wireReader) bytes(f *field, at span, depth int) error {
	switch f.kind {
	case kindText:
		if !utf8.Valid(r.data[at.start:at.end]) {
			return errText
		}
	case kindTextMap:
		return r.entry(f.keep, at)
	case kindMap:
		return r.message(f.fields, at.start, at.end, depth)
	case kindMessage:
		if f.keep == keepRawHeader {
			r.item = rawItem{}
		}
		if err := r.message(f.fields, at.start, at.end, depth); err != nil {
			return err
		}
	}
	switch f.keep {
	case keepMethod:
		r.method = at
	case keepPath:
		r.path = at
	case keepHost:
		if r.wanted.host {
			r.host = at
		}
	case keepPeer:
		r.peer = at
	case keepOtherPeer:
		r.peer = span{}
	case keepRawHeader:
		r.keepRaw()
	case keepRawKey:
		r.item.key = at
	case keepRawText:
		r.item.text = at
	case keepRawBytes:
		r.item.raw = at
	}
	return nil
}

// keepRaw keeps the entry of the list of headers that was read last.
func (r *wireReader) keepRaw() {
	place := r.wanted.headers.findFold(r.data[r.item.key.start:r.item.key.end])
	if place < 0 {
		return
	}
	value := r.item.text
	if r.item.raw.size() > 0 {
		value = r.item.raw
	}
	r.raw = append(r.raw, rawSpan{place, value})
}

// entry reads one entry of a map from text to text. A key or value that is not
// there is empty; of several the last counts.
func (r *wireReader) entry(keep keep, all span) error {
	var key span
	value := span{all.end, all.end}
	for at := all.start; at < all.end; {
		number, wire, n := consumeTag(r.data[at:all.end])
		if n < 0 {
			return errWire
		}
		at += n
		if number > 2 || wire != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, wire, r.data[at:all.end]); n < 0 {
				return errWire
			}
			at += n
			continue
		}
		text, n := protowire.ConsumeBytes(r.data[at:all.end])
		if n < 0 {
			return errWire
		}
		at += n
		if !utf8.Valid(text) {
			return errText
		}
		if number == 1 {
			key = span{at - len(text), at}
		} else {
			value = span{at - len(text), at}
		}
	}
	name := r.data[key.start:key.end]
	switch keep {
	case keepHeaders:
		if place := r.wanted.headers.find(name); place >= 0 {
			r.headers[place] = value
		}
	case keepExtensions:
		if place := r.wanted.extensions.find(name); place >= 0 {
			r.extensions[place] = value
		}
	}
	return nil
}

// consumeTag reads a field's number and wire type. A negative n is an error.
func consumeTag(b []byte) (number protowire.Number, wire protowire.Type, n int) {
	tag, n := uint64(b[0]), 1
	if tag >= 0x80 {
		if tag, n = protowire.ConsumeVarint(b); n < 0 {
			return 0, 0, n
		}
	}
	if tag>>3 < uint64(protowire.MinValidNumber) || tag>>3 > uint64(protowire.MaxValidNumber) {
		return 0, 0, -1
	}
	return protowire.Number(tag >> 3), protowire.Type(tag & 7), n
}
