package admin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

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
func clip(name string) string { return clipTo(name, 64) }

// maxMessage bounds a message that repeats what a client sent.
const maxMessage = 300

func clipTo(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
