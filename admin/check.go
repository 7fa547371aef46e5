package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

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
		if schema.MinItems != nil && len(values) < *schema.MinItems {
			c.add(place, "expected at least %d entries, got %d", *schema.MinItems, len(values))
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
	if schema.MaxProperties != nil && len(parsed.names) > *schema.MaxProperties {
		c.add(place, "expected at most %d entries, got %d", *schema.MaxProperties, len(parsed.names))
		return
	}
	others, open := schema.AdditionalProperties.(*huma.Schema)
	for _, name := range parsed.names {
		property, known := schema.Properties[name]
		if !known && open {
			property, known = others, true
		}
		if !known {
			c.add(place+"."+clip(name), "expected no such field; known are %s", strings.Join(sortedNames(schema), ", "))
			continue
		}
		c.check(property, place+"."+clip(name), parsed.values[name])
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
	case schema.Enum != nil && !slices.Contains(schema.Enum, any(text)):
		c.add(place, "expected one of %q", schema.Enum)
	case schema.Format == "date-time":
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			c.add(place, "expected a date and time such as 2030-01-31T12:00:00Z")
		}
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
