package apikey

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// KeyID names a key for good; it is positive and never used again.
type KeyID int64

// UserID names the user who owns keys; it is positive and never used again.
type UserID int64

// Limits of what a key may hold, all inclusive.
const (
	MaxNameLength = 100 // characters of a key's name
	MaxListLength = 100 // entries of each list
	// MaxRateLimit is the largest hourly limit.
	MaxRateLimit = 1_000_000_000
)

// Key is what is known of an API key: everything but its secret.
//
// Keys that a store or a cache has handed out are shared between goroutines
// and must not be changed; [Key.Clone] makes a copy that may be.
type Key struct {
	ID    KeyID
	Hash  Hash   // SHA-256 of the secret, unique among all keys
	Hint  string // see [Secret.Hint]
	Name  string
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

	CreatedAt time.Time // UTC, whole microseconds
	// LastUsedAt is when the key last allowed a call, in UTC and whole
	// seconds; it may lag by a write-behind interval. Zero: never.
	LastUsedAt time.Time
}

// Clone returns a copy that shares nothing with k.
func (k *Key) Clone() *Key {
	clone := *k
	clone.AllowedOrigins = slices.Clone(k.AllowedOrigins)
	clone.AllowedIPs = slices.Clone(k.AllowedIPs)
	return &clone
}

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
	return nil
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
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("expected printable characters, got U+%04X", r)
		}
	}
	return nil
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
