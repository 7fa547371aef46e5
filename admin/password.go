package admin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// Rules for new passwords. There are none about which characters to use: only
// length makes a password hard to guess.
const (
	MinPasswordLength = 12  // characters
	MaxPasswordLength = 256 // bytes in UTF-8
)

const (
	saltLength   = 16
	digestLength = 32
)

func (c PasswordCost) validate() error {
	switch {
	case c.Passes < 1 || c.Passes > 16:
		return fmt.Errorf("passes: expected 1 to 16, got %d", c.Passes)
	case c.Parallelism < 1 || c.Parallelism > 16:
		return fmt.Errorf("parallelism: expected 1 to 16, got %d", c.Parallelism)
	case c.MemoryKiB < 8*uint32(c.Parallelism) || c.MemoryKiB > 1<<20:
		return fmt.Errorf("memory in KiB: expected %d to %d, got %d", 8*uint32(c.Parallelism), 1<<20, c.MemoryKiB)
	}
	return nil
}

// checkPassword returns what a new password lacks, without repeating it.
func checkPassword(password string) error {
	password = norm.NFC.String(password)
	switch {
	case !utf8.ValidString(password):
		return errors.New("expected valid UTF-8")
	case utf8.RuneCountInString(password) < MinPasswordLength:
		return fmt.Errorf("expected at least %d characters", MinPasswordLength)
	case len(password) > MaxPasswordLength:
		return fmt.Errorf("expected at most %d bytes", MaxPasswordLength)
	}
	return nil
}

// passwordHash is a parsed argon2id hash in PHC string format.
type passwordHash struct {
	cost   PasswordCost
	salt   []byte
	digest []byte
}

func (h passwordHash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.MemoryKiB, h.cost.Passes, h.cost.Parallelism,
		base64.RawStdEncoding.EncodeToString(h.salt), base64.RawStdEncoding.EncodeToString(h.digest))
}

var errPasswordHash = errors.New("stored password hash: expected argon2id in PHC string format within the bounds")

// parsePasswordHash reads a hash whose cost is within the bounds of
// [PasswordCost], so that no stored hash can exhaust the machine.
func parsePasswordHash(text string) (passwordHash, error) {
	var h passwordHash
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errPasswordHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.cost.MemoryKiB, &h.cost.Passes, &h.cost.Parallelism); err != nil {
		return h, errPasswordHash
	}
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(parts[4])
	h.digest, err2 = base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil || h.cost.validate() != nil || h.String() != text ||
		len(h.salt) < 8 || len(h.salt) > 64 || len(h.digest) < 16 || len(h.digest) > 64 {
		return passwordHash{}, errPasswordHash
	}
	return h, nil
}

// hasher makes and checks password hashes, a few at a time.
type hasher struct {
	cost      PasswordCost
	turns     *turns
	elsewhere func(context.Context, PasswordInput) (PasswordDigest, error)
	working   func() (done func())
	dummy     string
}

// HashesAtOnce is how many passwords are hashed at the same time.
func HashesAtOnce() int { return min(max(1, runtime.NumCPU()/2), mostAtOnce) }

func newHasher(cost PasswordCost, elsewhere func(context.Context, PasswordInput) (PasswordDigest, error), working func() (done func())) *hasher {
	if elsewhere == nil {
		elsewhere = func(context.Context, PasswordInput) (PasswordDigest, error) { return PasswordDigest{}, errNowhereElse }
	}
	if working == nil {
		working = func() func() { return func() {} }
	}
	h := &hasher{cost: cost, elsewhere: elsewhere, working: working, turns: newTurns(HashesAtOnce())}
	unknown := passwordHash{cost: cost, salt: make([]byte, saltLength), digest: make([]byte, digestLength)}
	_, _ = rand.Read(unknown.salt)
	_, _ = rand.Read(unknown.digest)
	h.dummy = unknown.String()
	return h
}

// hash returns the hash of password under the current cost.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	made := passwordHash{cost: h.cost, salt: make([]byte, saltLength)}
	_, _ = rand.Read(made.salt)
	var err error
	if made.digest, err = h.derive(ctx, password, made.salt, h.cost, digestLength); err != nil {
		return "", err
	}
	return made.String(), nil
}

// verify reports whether password has this hash, and whether the hash was made
// under another cost than the current one. An empty hash stands for a user who
// does not exist: it takes as long and never matches.
func (h *hasher) verify(ctx context.Context, hash, password string) (match, outdated bool, err error) {
	known := hash != ""
	if !known {
		hash = h.dummy
	}
	parsed, err := parsePasswordHash(hash)
	if err != nil {
		return false, false, err
	}
	digest, err := h.derive(ctx, password, parsed.salt, parsed.cost, uint32(len(parsed.digest)))
	if err != nil {
		return false, false, err
	}
	match = subtle.ConstantTimeCompare(digest, parsed.digest) == 1 && known
	return match, parsed.cost != h.cost || len(parsed.digest) != digestLength, nil
}

// derive waits for its turn and hashes the password in Unicode's composed form
// (NFC), since keyboards differ in how they write one and the same accented
// letter.
func (h *hasher) derive(ctx context.Context, password string, salt []byte, cost PasswordCost, length uint32) ([]byte, error) {
	leave, err := h.turns.enter(ctx)
	if err != nil {
		return nil, err
	}
	var took time.Duration
	defer func() { leave(took) }()
	in := PasswordInput{[]byte(norm.NFC.String(password)), salt, cost, length}
	// Who leaves meanwhile has the hash made nevertheless: it counts as a guess,
	// and others have to rest from it.
	if made, err := h.elsewhere(context.WithoutCancel(ctx), in); err == nil {
		took = made.Took
		return made.Digest, nil
	}
	began := time.Now()
	defer h.working()()
	digest := argon2.IDKey(in.Password, in.Salt, cost.Passes, cost.MemoryKiB, cost.Parallelism, length)
	took = time.Since(began)
	return digest, nil
}

var errNowhereElse = errors.New("there is nowhere else to hash")
