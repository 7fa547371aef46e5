package admin

import (
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// Optional is a field of a change: absent, null or a value. The zero value is
// absent.
type Optional[T any] struct {
	value T
	given bool
	null  bool
}

// Some is a field with a value.
func Some[T any](value T) Optional[T] { return Optional[T]{value: value, given: true} }

// Null is a field that is to be cleared.
func Null[T any]() Optional[T] { return Optional[T]{given: true, null: true} }

// Get returns the value, the zero one for null, and whether the field is
// there.
func (o Optional[T]) Get() (value T, given bool) { return o.value, o.given }

// pointer returns the value, or nil where there is none.
func (o Optional[T]) pointer() *T {
	if !o.given || o.null {
		return nil
	}
	return &o.value
}

// IsZero reports whether the field is absent.
func (o Optional[T]) IsZero() bool { return !o.given }

// MarshalJSON writes the value or null.
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if !o.given || o.null {
		return []byte("null"), nil
	}
	return json.Marshal(o.value)
}

// UnmarshalJSON reads a value or null.
func (o *Optional[T]) UnmarshalJSON(text []byte) error {
	*o = Optional[T]{given: true, null: string(text) == "null"}
	if o.null {
		return nil
	}
	return json.Unmarshal(text, &o.value)
}

// Schema describes the value or null.
func (Optional[T]) Schema(registry huma.Registry) *huma.Schema {
	schema := *registry.Schema(reflect.TypeFor[T](), true, "")
	schema.Nullable = true
	return &schema
}
