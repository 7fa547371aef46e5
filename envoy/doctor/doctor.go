// Package doctor reads an Envoy configuration, ours or anybody's, and reports
// what lets requests slip past their API keys:
//
//	config, err := doctor.Read(file)
//	for _, finding := range doctor.Examine(config, doctor.Options{}) {
//		fmt.Println(finding)
//	}
//
// It reads a bootstrap file in YAML or JSON and the answer of /config_dump
// alike. Extensions that it does not know are passed over.
package doctor

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Severity says how bad a [Finding] is.
type Severity uint8

// The severities.
const (
	// Advice is worth knowing.
	Advice Severity = iota
	// Warning is likely to do harm, or does under load.
	Warning
	// Danger lets requests pass that should not.
	Danger
)

// String returns the severity in one word.
func (s Severity) String() string { return [...]string{"advice", "warning", "danger"}[s] }

// Finding is one thing that is unsafe or missing.
type Finding struct {
	Severity Severity
	// Code names the kind of finding for good.
	Code string
	// Where is the part of the configuration, such as "listener front, filter
	// envoy.filters.http.ext_authz".
	Where string
	What  string // what is the matter
	Fix   string // what to write instead
}

// String returns the finding on two lines.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s [%s]\n    %s", f.Severity, f.Where, f.What, f.Code, f.Fix)
}

// Options say what the service behind was told.
type Options struct {
	// Identity are the headers that tell the upstream whose key it was, in
	// lower case. Nil: the defaults.
	Identity []string
	// AddressHeader is the header that the service reads the client's address
	// from, in lower case. Empty: it reads none.
	AddressHeader string
}

// maxSize bounds what is read.
const maxSize = 256 << 20

// Config is a configuration that was read, see [Read].
type Config struct{ root object }

// Read reads a configuration. Its error says what is wrong with the text.
func Read(r io.Reader) (*Config, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSize))
	if err != nil {
		return nil, fmt.Errorf("reading an Envoy configuration: %w", err)
	}
	var document any
	if err := yaml.Unmarshal(text, &document); err != nil { // JSON is YAML
		return nil, fmt.Errorf("reading an Envoy configuration: %w", err)
	}
	root, ok := plain(document).(object)
	if !ok {
		return nil, errors.New("reading an Envoy configuration: expected a mapping such as a bootstrap or the answer of /config_dump")
	}
	return &Config{root}, nil
}

// object is a message by its fields' names in the way of protobuf.
type object map[string]any

// plain returns value with all its mappings as objects. JSON may spell fields
// in camel case; names of extensions are values or have dots and stay.
func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		o := make(object, len(v))
		for name, inner := range v {
			o[snake(name)] = plain(inner)
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(v[i])
		}
		return list
	}
	return value
}

func snake(name string) string {
	if strings.ContainsAny(name, "._-@/ ") {
		return name
	}
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// at returns what lies at a path of fields; the empty object where nothing does.
func (o object) at(path ...string) object {
	for _, name := range path {
		o, _ = o[name].(object)
	}
	return o
}

func (o object) list(name string) []object {
	items, _ := o[name].([]any)
	var all []object
	for _, item := range items {
		if inner, ok := item.(object); ok {
			all = append(all, inner)
		}
	}
	return all
}

func (o object) text(name string) string {
	text, _ := o[name].(string)
	return text
}

// is reports whether a flag is set, in either form that YAML and wrapped
// values have.
func (o object) is(name string) bool {
	switch v := o[name].(type) {
	case bool:
		return v
	case string:
		return v == "true"
	case object:
		return v.is("value")
	}
	return false
}

// typed returns the message of a type within o or its typed_config.
func (o object) typed(suffix string) (object, bool) {
	for _, candidate := range []object{o, o.at("typed_config")} {
		if strings.HasSuffix(candidate.text("@type"), suffix) {
			return candidate, true
		}
	}
	return nil, false
}

// each calls fn with every object within value, and with the nearest names
// above it.
func each(value any, names []string, fn func(o object, names []string)) {
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			each(item, names, fn)
		}
	case object:
		if name := v.text("name"); name != "" {
			names = append(slices.Clip(names), name)
		}
		fn(v, names)
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			each(v[key], names, fn)
		}
	}
}
