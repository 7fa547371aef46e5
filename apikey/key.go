package apikey

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// KeyID names a key for good; it is positive and never used again.
type KeyID int64

// UserID names the user who owns keys; it is positive and never used again.
type UserID int64

// Limits of what a key may hold, all inclusive.
const (
	MaxNameLength  = 100  // characters of a key's name
	MaxListLength  = 100  // entries of each list
	MaxNotesLength = 1000 // characters of a key's notes
	// MaxRateLimit is the largest hourly limit.
	MaxRateLimit = 1_000_000_000
)

// Key is what is known of an API key: everything but its secret.
//
// Keys that a store or a cache has handed out are shared between goroutines
// and must not be changed; [Key.Clone] makes a copy that may be.
type Key struct {
	ID   KeyID
	Hash Hash   // SHA-256 of the secret, unique among all keys
	Hint string // see [Secret.Hint]
	// PreviousHash and PreviousHint are those of the secret before the last
	// rotation, which answers for the key until PreviousUntil. Zero: none does.
	PreviousHash  Hash
	PreviousHint  string
	PreviousUntil time.Time // UTC, whole microseconds

	Name  string
	Notes string // what its owner wrote about it, perhaps several lines
	Owner UserID
	// OwnerName is the owner's canonical user name when the key was made.
	OwnerName string

	// AllowedOrigins are the origins a request may name. Empty: any.
	AllowedOrigins []OriginPattern
	// AllowedIPs are the addresses a request without an origin may come
	// from; IPv4 prefixes are never in their IPv6-mapped form. Empty: any.
	AllowedIPs []netip.Prefix
	// Strict makes both lists hold for every request: with origins listed a
	// request must name one, and with addresses listed it must come from one.
	Strict bool
	// RateLimitPerHour is how many calls any 60 minutes may allow. Zero: no
	// limit.
	RateLimitPerHour uint32
	// Scopes are what the key may be used for. Empty: everything.
	Scopes []Scope
	// Metadata is told to the services behind Envoy with every allowed call.
	Metadata Metadata
	// Disabled pauses the key: all its calls are denied until it is enabled.
	Disabled bool
	// ExpiresAt is when the key ends by itself, in UTC and whole
	// microseconds. Zero: never.
	ExpiresAt time.Time

	CreatedAt time.Time // UTC, whole microseconds
	UpdatedAt time.Time // UTC, whole microseconds. Zero: never changed.
	// LastUsedAt is when the key last allowed a call, in UTC and whole
	// seconds; it may lag by a write-behind interval. Zero: never.
	LastUsedAt time.Time
}

// Clone returns a copy that shares nothing with k.
func (k *Key) Clone() *Key {
	clone := *k
	clone.AllowedOrigins = slices.Clone(k.AllowedOrigins)
	clone.AllowedIPs = slices.Clone(k.AllowedIPs)
	clone.Scopes = slices.Clone(k.Scopes)
	clone.Metadata = slices.Clone(k.Metadata)
	return &clone
}

// Answers reports whether the secret with this hash is the key's at now: the
// present one, or the one before it until PreviousUntil.
func (k *Key) Answers(hash *Hash, now time.Time) bool {
	if k.Hash == *hash {
		return true
	}
	return k.PreviousHash != (Hash{}) && k.PreviousHash == *hash && now.Before(k.PreviousUntil)
}

// Expired reports whether the key has ended by itself.
func (k *Key) Expired(now time.Time) bool { return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) }

// Open reports whether neither list restricts the key.
func (k *Key) Open() bool { return len(k.AllowedOrigins) == 0 && len(k.AllowedIPs) == 0 }

// SkipsAddresses reports whether a request can escape the key's address list
// by sending an Origin header of its own making: the key lists addresses, no
// origins, and is not strict.
func (k *Key) SkipsAddresses() bool {
	return !k.Strict && len(k.AllowedIPs) > 0 && len(k.AllowedOrigins) == 0
}

// Validate reports the first field of k that breaks a rule, as a [*FieldError].
func (k *Key) Validate() error {
	if err := validateName(k.Name); err != nil {
		return &FieldError{Field: "name", Err: err}
	}
	if n := len(k.AllowedOrigins); n > MaxListLength {
		return &FieldError{Field: "allowed_origins", Err: tooLong(n)}
	}
	for i, origin := range k.AllowedOrigins {
		if origin.host == "" && !origin.null {
			return &FieldError{Field: fmt.Sprintf("allowed_origins[%d]", i), Err: errors.New("expected an origin, got none")}
		}
	}
	if n := len(k.AllowedIPs); n > MaxListLength {
		return &FieldError{Field: "allowed_ips", Err: tooLong(n)}
	}
	for i, prefix := range k.AllowedIPs {
		if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() {
			return &FieldError{Field: fmt.Sprintf("allowed_ips[%d]", i), Err: errors.New("expected an address prefix in canonical form")}
		}
	}
	if k.RateLimitPerHour > MaxRateLimit {
		return &FieldError{Field: "rate_limit_per_hour", Err: fmt.Errorf("expected at most %d", MaxRateLimit)}
	}
	if n := len(k.Scopes); n > MaxListLength {
		return &FieldError{Field: "scopes", Err: tooLong(n)}
	}
	for i := range k.Scopes {
		if k.Scopes[i].isZero() {
			return &FieldError{Field: fmt.Sprintf("scopes[%d]", i), Err: errors.New("expected a scope, got none")}
		}
	}
	if err := validateNotes(k.Notes); err != nil {
		return &FieldError{Field: "notes", Err: err}
	}
	return k.Metadata.validate()
}

// validateNotes admits text of several lines.
func validateNotes(notes string) error {
	if !utf8.ValidString(notes) {
		return errors.New("expected valid UTF-8")
	}
	if n := utf8.RuneCountInString(notes); n > MaxNotesLength {
		return fmt.Errorf("expected at most %d characters, got %d", MaxNotesLength, n)
	}
	return onlyPrintable(strings.ReplaceAll(notes, "\n", ""))
}

func tooLong(n int) error {
	return fmt.Errorf("expected at most %d entries, got %d", MaxListLength, n)
}

// validateName admits what can stand in a header, a log line and a table:
// text without control characters or line breaks.
func validateName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return errors.New("expected valid UTF-8")
	case strings.TrimSpace(name) == "":
		return errors.New("expected a name of at least one visible character")
	case strings.TrimSpace(name) != name:
		return errors.New("expected no space at either end")
	case utf8.RuneCountInString(name) > MaxNameLength:
		return fmt.Errorf("expected at most %d characters, got %d", MaxNameLength, utf8.RuneCountInString(name))
	}
	return onlyPrintable(name)
}

// FieldError says which field of a key is wrong and what was expected. Its
// text names the field as the admin API does.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the reason without the field.
func (e *FieldError) Unwrap() error { return e.Err }
