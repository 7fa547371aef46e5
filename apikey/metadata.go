package apikey

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a key's metadata, all inclusive.
const (
	MaxMetadataEntries = 20
	MaxMetadataName    = 40   // bytes of an entry's name
	MaxMetadataValue   = 200  // bytes of an entry's value
	MaxMetadataSize    = 2000 // bytes of all names and values
)

// Metadata is what a key's owner notes of it for the services behind Envoy,
// sorted by name. Make one with [NewMetadata].
type Metadata []MetadataEntry

// MetadataEntry is one name and its value.
type MetadataEntry struct{ Name, Value string }

// NewMetadata returns the entries of values, or a [*FieldError] that names the
// one at fault.
func NewMetadata(values map[string]string) (Metadata, error) {
	if len(values) == 0 {
		return nil, nil
	}
	metadata := make(Metadata, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		metadata = append(metadata, MetadataEntry{name, values[name]})
	}
	return metadata, metadata.validate()
}

// Map returns the entries as a map, never nil.
func (m Metadata) Map() map[string]string {
	values := make(map[string]string, len(m))
	for _, entry := range m {
		values[entry.Name] = entry.Value
	}
	return values
}

func (m Metadata) validate() error {
	if len(m) > MaxMetadataEntries {
		return &FieldError{Field: "metadata", Err: fmt.Errorf("expected at most %d entries, got %d", MaxMetadataEntries, len(m))}
	}
	size := 0
	for i, entry := range m {
		if !validMetadataName(entry.Name) {
			return &FieldError{Field: "metadata", Err: fmt.Errorf("name %q: expected a lower-case letter, then lower-case letters, digits and underscores, at most %d in all", entry.Name, MaxMetadataName)}
		}
		if i > 0 && m[i-1].Name >= entry.Name {
			return &FieldError{Field: "metadata", Err: errors.New("expected each name once, in order")}
		}
		if err := validateMetadataValue(entry.Value); err != nil {
			return &FieldError{Field: "metadata." + entry.Name, Err: err}
		}
		size += len(entry.Name) + len(entry.Value)
	}
	if size > MaxMetadataSize {
		return &FieldError{Field: "metadata", Err: fmt.Errorf("expected at most %d bytes in all, got %d", MaxMetadataSize, size)}
	}
	return nil
}

func validMetadataName(name string) bool {
	if name == "" || len(name) > MaxMetadataName || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' })
}

// validateMetadataValue admits what can stand in a header without being taken
// for anything but a value.
func validateMetadataValue(value string) error {
	if !utf8.ValidString(value) {
		return errors.New("expected valid UTF-8")
	}
	if len(value) > MaxMetadataValue {
		return fmt.Errorf("expected at most %d bytes, got %d", MaxMetadataValue, len(value))
	}
	return onlyPrintable(value)
}

func onlyPrintable(text string) error {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("expected printable characters, got U+%04X", r)
		}
	}
	return nil
}
