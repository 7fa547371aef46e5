package store

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tokenkithq/authz/apikey"
	"golang.org/x/net/idna"
)

// Limits of what names a user, in bytes, inclusive.
const (
	MaxUserNameLength = 64  // of a user name that is not an e-mail address
	MaxEmailLength    = 254 // of an e-mail address, as SMTP has it

	maxLocalPartLength = 64
)

// User is somebody who owns keys and signs in.
type User struct {
	ID apikey.UserID
	// Name is the canonical user name, unique; see [CanonicalUserName].
	Name string
	// Email is the canonical address, unique where not empty.
	Email string
	// PasswordHash is an argon2id hash in PHC string format.
	PasswordHash string
	Role         Role
	CreatedAt    time.Time // UTC, whole microseconds
}

// CanonicalUserName returns the form in which a user name is kept and
// compared. Names are ASCII, so that no two of them look alike: 1 to
// [MaxUserNameLength] letters, digits and "._-+", the first a letter or digit,
// and capitals become small. A name may also be an e-mail address, which is
// then read as [CanonicalEmail] does. The error says what was expected and
// never repeats the text.
func CanonicalUserName(text string) (string, error) {
	if strings.Contains(text, "@") {
		return CanonicalEmail(text)
	}
	if text == "" || len(text) > MaxUserNameLength {
		return "", fmt.Errorf("expected 1 to %d characters", MaxUserNameLength)
	}
	for i := range len(text) {
		if c := text[i]; !isAlphanumeric(c) && (i == 0 || !strings.ContainsRune("._-+", rune(c))) {
			return "", errors.New(`expected ASCII letters, digits and "._-+", the first a letter or digit, or an e-mail address`)
		}
	}
	return strings.ToLower(text), nil
}

// CanonicalEmail returns the form in which an e-mail address is kept and
// compared: local@domain, at most [MaxEmailLength] bytes. The local part is an
// ASCII dot-atom (RFC 5322) of at most 64 bytes; quoted ones are refused. The
// domain is a host name, in its ASCII form where it is internationalized.
// Capitals become small on both sides, since no mail system in use tells them
// apart and people do not either. The error never repeats the text.
func CanonicalEmail(text string) (string, error) {
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return "", errors.New("expected an e-mail address, local@domain")
	}
	local, domain := text[:at], text[at+1:]
	if !isDotAtom(local) {
		return "", fmt.Errorf("expected 1 to %d ASCII letters, digits and punctuation before the @ of the e-mail address", maxLocalPartLength)
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || !utf8.ValidString(domain) || !isHostName(ascii) {
		return "", errors.New("expected a domain name after the @ of the e-mail address")
	}
	canonical := strings.ToLower(local + "@" + ascii)
	if len(canonical) > MaxEmailLength {
		return "", fmt.Errorf("expected an e-mail address of at most %d bytes", MaxEmailLength)
	}
	return canonical, nil
}

// CanonicalLogin returns the form of what somebody signs in with, a user name
// or an e-mail address, that [Users.FindUser] looks up. Names and addresses
// share one space: what is one user's name is never another user's address.
func CanonicalLogin(text string) (string, error) { return CanonicalUserName(text) }

// Validate reports the first field of u that breaks a rule, as an
// [*apikey.FieldError]; a name or address that is not canonical does. It says
// nothing of the password hash but whether it can be stored.
func (u *User) Validate() error {
	name, err := CanonicalUserName(u.Name)
	if err == nil && name != u.Name {
		err = errors.New("expected a name in canonical form")
	}
	if err != nil {
		return &apikey.FieldError{Field: "username", Err: err}
	}
	if u.Email != "" {
		email, err := CanonicalEmail(u.Email)
		if err == nil && email != u.Email {
			err = errors.New("expected an address in canonical form")
		}
		if err != nil {
			return &apikey.FieldError{Field: "email", Err: err}
		}
	}
	if !u.Role.Valid() {
		return &apikey.FieldError{Field: "role", Err: fmt.Errorf("expected one of %q", roleNames)}
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isDotAtom(local string) bool {
	if local == "" || len(local) > maxLocalPartLength {
		return false
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if c := atom[i]; !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(c)) {
				return false
			}
		}
	}
	return true
}

func isHostName(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlphanumeric(c) && c != '-' {
				return false
			}
		}
	}
	return true
}
