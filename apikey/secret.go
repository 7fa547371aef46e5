package apikey

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"unsafe"
)

// The shape of a secret: [SecretPrefix], then [payloadLength] base62 digits
// that hold 256 random bits, then [checksumLength] base62 digits of the CRC-32
// (IEEE) of all that stands before them.
const (
	// SecretPrefix starts every secret, so that scanners find leaked ones.
	SecretPrefix = "tk_"
	// SecretLength is the length of a secret in bytes.
	SecretLength = len(SecretPrefix) + payloadLength + checksumLength
	// SecretPattern is a regular expression (RE2) that every secret matches.
	SecretPattern = `tk_[0-9A-Za-z]{49}`

	secretBytes    = 32
	payloadLength  = 43 // 62^43 > 2^256
	checksumLength = 6  // 62^6 > 2^32
)

const base62 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// ErrMalformedSecret says that a text cannot be a secret: its prefix, length,
// alphabet or checksum is wrong. It never contains the text.
var ErrMalformedSecret = errors.New("malformed API key")

// Secret is the value of an API key. Every way of formatting, logging or
// encoding one prints a placeholder; only [Secret.Reveal] returns the value.
// The zero Secret is no secret.
type Secret struct {
	value string
}

const redacted = "[redacted API key]"

// NewSecret makes a secret from 32 bytes of random, which must be a source fit
// for cryptography. Its errors are those of the source.
func NewSecret(random io.Reader) (Secret, error) {
	var raw [secretBytes]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Secret{}, fmt.Errorf("reading random bytes for an API key: %w", err)
	}
	value := SecretPrefix + pad(new(big.Int).SetBytes(raw[:]).Text(62), payloadLength)
	return Secret{value + checksum(value)}, nil
}

func pad(digits string, length int) string {
	const zeros = "0000000000000000000000000000000000000000000"
	return zeros[:length-len(digits)] + digits
}

// checksum returns the CRC-32 of text in six base62 digits.
func checksum(text string) string {
	var digits [checksumLength]byte
	putChecksum(&digits, text)
	return string(digits[:])
}

func putChecksum(digits *[checksumLength]byte, text string) {
	sum := crc32.ChecksumIEEE(bytesOf(text))
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = base62[sum%62]
		sum /= 62
	}
}

// ParseSecret recognizes a secret by its prefix, length, alphabet and
// checksum. It returns [ErrMalformedSecret] for anything else. A secret that
// parses need not belong to any key.
func ParseSecret(text string) (Secret, error) {
	if len(text) != SecretLength || text[:len(SecretPrefix)] != SecretPrefix {
		return Secret{}, ErrMalformedSecret
	}
	for i := len(SecretPrefix); i < len(text); i++ {
		if !isBase62(text[i]) {
			return Secret{}, ErrMalformedSecret
		}
	}
	body := text[:SecretLength-checksumLength]
	var digits [checksumLength]byte
	putChecksum(&digits, body)
	if string(digits[:]) != text[len(body):] {
		return Secret{}, ErrMalformedSecret
	}
	return Secret{text}, nil
}

func isBase62(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Reveal returns the value itself, for the one answer that shows it.
func (s Secret) Reveal() string { return s.value }

// Hash returns the SHA-256 of the value, the only form that is ever stored.
func (s Secret) Hash() Hash {
	return sha256.Sum256(bytesOf(s.value))
}

// bytesOf returns the bytes of text without copying them: a Check hashes a
// secret and its checksum, and should allocate for neither. They must not be
// changed.
func bytesOf(text string) []byte { return unsafe.Slice(unsafe.StringData(text), len(text)) }

// Hint returns the prefix and the last four characters of the value, enough
// for a person to tell keys apart and useless for guessing one: "tk_…a1B2".
func (s Secret) Hint() string {
	if len(s.value) != SecretLength {
		return ""
	}
	return SecretPrefix + "…" + s.value[SecretLength-4:]
}

// Format prints a placeholder whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String returns a placeholder.
func (Secret) String() string { return redacted }

// MarshalText returns a placeholder, so that JSON, XML and log encoders
// cannot leak a value.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Hash is the SHA-256 of a secret, by which a key is found.
type Hash [sha256.Size]byte

// String returns the hash in hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns the hash in hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads a hash from 64 hexadecimal digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return fmt.Errorf("key hash: %d characters, expected %d hexadecimal digits", len(text), 2*len(h))
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return errors.New("key hash: expected hexadecimal digits")
	}
	return nil
}
