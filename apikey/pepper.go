package apikey

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// MinPepperLength is how many bytes a pepper must have at least, so that it
// cannot be guessed by who holds a copy of the store.
const MinPepperLength = 32

// noPepper is the line that stands for hashes without a pepper.
const noPepper = "none"

// A peppered [Hash] says which pepper made it, without saying the pepper, so
// that a store never has to be taken on trust: macLength bytes of
// HMAC-SHA-256(pepper, secret), pepperMark, and the first bytes of
// HMAC-SHA-256(pepper, fingerprintLabel). The chance that the SHA-256 of a
// secret looks so is 2^-48.
const (
	macLength         = 22 // 176 bits
	pepperMark        = "\xf0tkhm\x01"
	fingerprintLength = sha256.Size - macLength - len(pepperMark)
	fingerprintLabel  = "tokenkit-authz pepper" // no secret: those have another prefix
)

// Hasher turns secrets into the hashes that keys are stored and found by, in
// one way or several: a [Secret.Hash], or an HMAC under a pepper, which is a
// secret kept apart from the store. The first way is that of new keys; the
// others are for keys made before. The zero Hasher knows one way,
// [Secret.Hash]. It may be used by many goroutines, allocates nothing, and
// prints as a placeholder.
type Hasher struct {
	ways []*pepper // nil entry: no pepper; none at all: one such way
}

// pepper hashes under one pepper.
type pepper struct {
	fingerprint [fingerprintLength]byte
	states      sync.Pool // of *pepperState
}

// pepperState is what a hash needs; an HMAC that was reset starts where its key
// was absorbed already.
type pepperState struct {
	mac    hash.Hash
	secret [SecretLength]byte
	sum    [sha256.Size]byte
}

// ParsePeppers reads peppers, one a line, of at least [MinPepperLength] bytes;
// the line "none" stands for hashes without one. The first line is that of new
// keys. Empty lines at the end do not matter. Errors name the line and never
// repeat it.
func ParsePeppers(text []byte) (Hasher, error) {
	var h Hasher
	for i, line := range bytes.Split(bytes.TrimRight(text, "\r\n"), []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		var way *pepper
		if string(line) != noPepper {
			if err := checkPepper(line); err != nil {
				return Hasher{}, fmt.Errorf("line %d: %w", i+1, err)
			}
			way = newPepper(line)
		}
		for before, other := range h.ways {
			if way == nil && other == nil || way != nil && other != nil && way.fingerprint == other.fingerprint {
				return Hasher{}, fmt.Errorf("line %d: expected another line than line %d", i+1, before+1)
			}
		}
		h.ways = append(h.ways, way)
	}
	return h, nil
}

func checkPepper(line []byte) error {
	if len(line) < MinPepperLength {
		return fmt.Errorf("expected a pepper of at least %d bytes, or %s, got %d bytes", MinPepperLength, noPepper, len(line))
	}
	for _, c := range line {
		if c <= ' ' || c == 0x7f {
			return errors.New("expected a pepper without spaces and control characters")
		}
	}
	return nil
}

func newPepper(key []byte) *pepper {
	key = bytes.Clone(key)
	p := &pepper{}
	p.states.New = func() any { return &pepperState{mac: hmac.New(sha256.New, key)} }
	label := hmac.New(sha256.New, key)
	_, _ = io.WriteString(label, fingerprintLabel)
	copy(p.fingerprint[:], label.Sum(nil))
	return p
}

func (p *pepper) hash(secret string) (h Hash) {
	state := p.states.Get().(*pepperState) //nolint:forcetypeassert // nothing else is put there
	n := copy(state.secret[:], secret)
	state.mac.Reset()
	_, _ = state.mac.Write(state.secret[:n])
	state.mac.Sum(state.sum[:0])
	copy(h[:], state.sum[:macLength])
	copy(h[macLength:], pepperMark)
	copy(h[macLength+len(pepperMark):], p.fingerprint[:])
	clear(state.secret[:])
	p.states.Put(state)
	return h
}

// Hash returns the hash of a new key's secret.
func (h Hasher) Hash(secret Secret) Hash { return h.HashBy(0, secret) }

// Ways returns how many ways to hash there are, at least one.
func (h Hasher) Ways() int { return max(len(h.ways), 1) }

// HashBy returns the hash by one of the ways, which count from zero. That of a
// key that exists is among them.
func (h Hasher) HashBy(way int, secret Secret) Hash {
	if len(h.ways) == 0 || h.ways[way] == nil {
		return secret.Hash()
	}
	return h.ways[way].hash(secret.value)
}

// WayOf returns the way that a hash was made by, and false where it was made by
// none of them: with a pepper that the Hasher lacks, see [Hash.Peppered], or
// without one.
func (h Hasher) WayOf(hash *Hash) (way int, known bool) {
	if len(h.ways) == 0 {
		return 0, !hash.Peppered()
	}
	for i, p := range h.ways {
		if p == nil && !hash.Peppered() || p != nil && hash.Peppered() && [fingerprintLength]byte(hash[sha256.Size-fingerprintLength:]) == p.fingerprint {
			return i, true
		}
	}
	return 0, false
}

// Peppered reports whether the hash was made with a pepper.
func (h *Hash) Peppered() bool {
	return string(h[macLength:macLength+len(pepperMark)]) == pepperMark
}

const redactedHasher = "[redacted peppers]"

// Format prints a placeholder whatever the verb.
func (Hasher) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedHasher) }

// String returns a placeholder.
func (Hasher) String() string { return redactedHasher }

// MarshalText returns a placeholder.
func (Hasher) MarshalText() ([]byte, error) { return []byte(redactedHasher), nil }
