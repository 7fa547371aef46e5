package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxBody  = 64 << 10
	maxDepth = 8
)

// object is a JSON object whose fields keep their order, so that faults are
// reported in the order in which a reader meets them.
type object struct {
	names  []string
	values map[string]any
}

// notInteger stands for a number that is no integer of 64 bits.
type notInteger struct{}

// parseStrict reads one JSON value: an *object, []any, string, int64,
// notInteger, bool or nil. It refuses text that is not UTF-8, lone surrogates,
// a field given twice at any depth, more than [maxDepth] levels and anything
// after the value. The problem never repeats a value.
func parseStrict(body []byte) (any, *Problem) {
	if !utf8.Valid(body) {
		return nil, newProblem(CodeInvalidJSON, FieldProblem{Location: "body", Message: "expected valid UTF-8"})
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(body))
	value, err := parseValue(decoder, 1)
	if err == nil {
		if _, err = decoder.ReadToken(); err == nil {
			err = errTrailing
		} else if errors.Is(err, io.EOF) {
			return value, nil
		}
	}
	return nil, newProblem(CodeInvalidJSON, syntaxFault(err, len(body), decoder))
}

var (
	errTrailing = errors.New("expected nothing after the object")
	errDepth    = fmt.Errorf("expected at most %d levels of nesting", maxDepth)
)

func syntaxFault(err error, length int, decoder *jsontext.Decoder) FieldProblem {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, errTrailing), errors.Is(err, errDepth):
		return FieldProblem{Location: location(decoder.StackPointer()), Message: err.Error()}
	case length == 0:
		return FieldProblem{Location: "body", Message: "expected a JSON object, got nothing"}
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		return FieldProblem{Location: location(syntax.JSONPointer), Message: "expected each field once"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return FieldProblem{Location: "body", Message: "expected the JSON text to go on"}
	case errors.As(err, &syntax):
		return FieldProblem{Location: location(syntax.JSONPointer), Message: fmt.Sprintf("expected valid JSON at byte %d", syntax.ByteOffset)}
	}
	return FieldProblem{Location: "body", Message: "expected valid JSON"}
}

func parseValue(decoder *jsontext.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	token, err := decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	switch token.Kind() {
	case '{':
		parsed := &object{values: map[string]any{}}
		for decoder.PeekKind() != '}' {
			name, err := decoder.ReadToken()
			if err != nil {
				return nil, err
			}
			text := name.String()
			value, err := parseValue(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			parsed.names = append(parsed.names, text)
			parsed.values[text] = value
		}
		_, err := decoder.ReadToken()
		return parsed, err
	case '[':
		values := []any{}
		for decoder.PeekKind() != ']' {
			value, err := parseValue(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			values = append(values, value)
		}
		_, err := decoder.ReadToken()
		return values, err
	case '"':
		return token.String(), nil
	case '0':
		if number, err := strconv.ParseInt(token.String(), 10, 64); err == nil {
			return number, nil
		}
		return notInteger{}, nil
	case 't', 'f':
		return token.Bool(), nil
	default:
		return nil, nil
	}
}

// location writes a JSON pointer as problems name places.
func location(pointer jsontext.Pointer) string {
	place := "body"
	for name := range pointer.Tokens() {
		if _, err := strconv.ParseUint(name, 10, 32); err == nil {
			place += "[" + name + "]"
		} else {
			place += "." + clip(name)
		}
	}
	return place
}

// clip bounds how much of a name that a client invented is sent back.
func clip(name string) string {
	const most = 64
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

// checker finds what in a value breaks the schema that the API description
// shows, which is thereby the only list of these rules. Names are compared
// exactly, null is a value like any other, and no type is converted.
type checker struct {
	registry huma.Registry
	faults   []FieldProblem
}

// maxFaults bounds a problem; a body can hold more faults than anybody reads.
const maxFaults = 20

func (c *checker) add(place, format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, FieldProblem{Location: place, Message: fmt.Sprintf(format, args...)})
	}
}

func (c *checker) check(schema *huma.Schema, place string, value any) {
	for schema.Ref != "" {
		schema = c.registry.SchemaFromRef(schema.Ref)
	}
	if value == nil && schema.Nullable {
		return
	}
	switch schema.Type {
	case huma.TypeObject:
		c.checkObject(schema, place, value)
	case huma.TypeArray:
		values, ok := value.([]any)
		if !ok {
			c.add(place, "expected a list, got %s", kindOf(value))
			return
		}
		if schema.MaxItems != nil && len(values) > *schema.MaxItems {
			c.add(place, "expected at most %d entries, got %d", *schema.MaxItems, len(values))
			return
		}
		for i, item := range values {
			c.check(schema.Items, fmt.Sprintf("%s[%d]", place, i), item)
		}
	case huma.TypeString:
		c.checkString(schema, place, value)
	case huma.TypeInteger:
		c.checkInteger(schema, place, value)
	case huma.TypeBoolean:
		if _, ok := value.(bool); !ok {
			c.add(place, "expected true or false, got %s", kindOf(value))
		}
	default:
		c.add(place, "expected nothing of kind %s", kindOf(value))
	}
}

func (c *checker) checkObject(schema *huma.Schema, place string, value any) {
	parsed, ok := value.(*object)
	if !ok {
		c.add(place, "expected an object, got %s", kindOf(value))
		return
	}
	for _, name := range parsed.names {
		property, known := schema.Properties[name]
		if !known {
			c.add(place+"."+clip(name), "expected no such field; known are %s", strings.Join(sortedNames(schema), ", "))
			continue
		}
		c.check(property, place+"."+name, parsed.values[name])
	}
	for _, name := range schema.Required {
		if _, given := parsed.values[name]; !given {
			c.add(place+"."+name, "expected this field, got none")
		}
	}
}

func sortedNames(schema *huma.Schema) []string {
	names := make([]string, 0, len(schema.Properties))
	for name := range schema.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *checker) checkString(schema *huma.Schema, place string, value any) {
	text, ok := value.(string)
	if !ok {
		c.add(place, "expected a string, got %s", kindOf(value))
		return
	}
	length := utf8.RuneCountInString(text)
	switch {
	case schema.MinLength != nil && length < *schema.MinLength:
		c.add(place, "expected at least %d characters, got %d", *schema.MinLength, length)
	case schema.MaxLength != nil && length > *schema.MaxLength:
		c.add(place, "expected at most %d characters, got %d", *schema.MaxLength, length)
	}
}

func (c *checker) checkInteger(schema *huma.Schema, place string, value any) {
	want := "an integer"
	if schema.Minimum != nil && schema.Maximum != nil {
		want = fmt.Sprintf("an integer from %.0f to %.0f", *schema.Minimum, *schema.Maximum)
	} else if schema.Minimum != nil {
		want = fmt.Sprintf("an integer of at least %.0f", *schema.Minimum)
	}
	if schema.Nullable {
		want += " or null"
	}
	number, ok := value.(int64)
	if !ok {
		c.add(place, "expected %s, got %s", want, kindOf(value))
		return
	}
	if schema.Minimum != nil && float64(number) < *schema.Minimum || schema.Maximum != nil && float64(number) > *schema.Maximum {
		c.add(place, "expected %s, got %d", want, number)
	}
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case *object:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a string"
	case int64:
		return "a number"
	case notInteger:
		return "a fraction, an exponent or more than 64 bits"
	default:
		return "true or false"
	}
}
