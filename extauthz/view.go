package extauthz

import (
	"bytes"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// view is what a decision looks at in a Check, whichever form it came in: the
// generated type, see [view.read], or the wire, see [wireReader].
type view struct {
	method, path string
	host         string // where wanted
	peer         string // the address of the connection to Envoy
	headers      []held // by the places of [wanted.headers]
	raw          []rawHeader
	extensions   []held // by the places of [wanted.extensions]
}

// held is the value of a map where it has one.
type held struct {
	value   string
	present bool
}

// rawHeader is an entry of the list of headers that Envoy fills in place of
// its map under encode_raw_headers.
type rawHeader struct {
	place int
	value string
}

// wanted are the names that a view holds the values of. Others are passed over.
type wanted struct {
	headers    names
	extensions names
	host       bool
}

// names gives each name a place.
type names []string

// place returns the place of a name, a new one where it has none.
func (n *names) place(name string) int {
	if i := n.find([]byte(name)); i >= 0 {
		return i
	}
	*n = append(*n, name)
	return len(*n) - 1
}

// find returns the place of a name, or a negative number.
func (n names) find(name []byte) int {
	for i, known := range n {
		if known == string(name) {
			return i
		}
	}
	return -1
}

// findFold is find for names in whatever case.
func (n names) findFold(name []byte) int {
	for i, known := range n {
		if bytes.EqualFold([]byte(known), name) {
			return i
		}
	}
	return -1
}

// reset empties v and makes room for what is wanted.
func (v *view) reset(w *wanted) {
	v.method, v.path, v.host, v.peer = "", "", "", ""
	v.headers = empty(v.headers, len(w.headers))
	v.extensions = empty(v.extensions, len(w.extensions))
	clear(v.raw)
	v.raw = v.raw[:0]
}

func empty(all []held, n int) []held {
	if cap(all) < n {
		return make([]held, n)
	}
	all = all[:n]
	clear(all)
	return all
}

// read takes from check what is wanted.
func (v *view) read(check *authv3.CheckRequest, w *wanted) {
	v.reset(w)
	attributes := check.GetAttributes()
	http := attributes.GetRequest().GetHttp()
	v.method, v.path = http.GetMethod(), http.GetPath()
	if w.host {
		v.host = http.GetHost()
	}
	v.peer = attributes.GetSource().GetAddress().GetSocketAddress().GetAddress()
	hold(v.headers, http.GetHeaders(), w.headers)
	hold(v.extensions, attributes.GetContextExtensions(), w.extensions)
	for _, header := range http.GetHeaderMap().GetHeaders() {
		place := w.headers.findFold([]byte(header.GetKey()))
		if place < 0 {
			continue
		}
		value := header.GetValue()
		if raw := header.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		v.raw = append(v.raw, rawHeader{place, value})
	}
}

func hold(all []held, values map[string]string, wanted names) {
	for i, name := range wanted {
		all[i].value, all[i].present = values[name]
	}
}

// header returns a header's value and how many values there are. Envoy joins
// the values of a repeated header with commas; such a value is counted as one
// here and fails later, since neither keys nor addresses have commas.
func (v *view) header(place int) (value string, n int) {
	if v.headers[place].present {
		value, n = v.headers[place].value, 1
	}
	for i := range v.raw {
		if v.raw[i].place == place {
			value = v.raw[i].value
			n++
		}
	}
	return value, n
}

// joined returns a header's values joined with commas, as Envoy does.
func (v *view) joined(place int) (value string, present bool) {
	value, present = v.headers[place].value, v.headers[place].present
	for i := range v.raw {
		switch {
		case v.raw[i].place != place:
		case present:
			value += "," + v.raw[i].value
		default:
			value, present = v.raw[i].value, true
		}
	}
	return value, present
}
