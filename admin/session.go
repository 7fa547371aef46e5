package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/tokenkithq/authz/store"
)

const (
	// TokenPrefix starts every session's token, so that scanners find leaked
	// ones and nobody takes one for an API key.
	TokenPrefix = "tks_"
	// TokenPattern is a regular expression (RE2) that every token matches.
	TokenPattern = `tks_[0-9A-Za-z_-]{43}`

	tokenBytes  = 32
	tokenLength = len(TokenPrefix) + 43
)

// sessionToken is the value that a client shows for its session. It prints a
// placeholder; only reveal returns the value.
type sessionToken struct{ value string }

func newSessionToken() sessionToken {
	var raw [tokenBytes]byte
	// crypto/rand ends the program rather than return fewer bytes.
	_, _ = rand.Read(raw[:])
	return sessionToken{TokenPrefix + base64.RawURLEncoding.EncodeToString(raw[:])}
}

func (t sessionToken) reveal() string      { return t.value }
func (t sessionToken) id() store.SessionID { return sha256.Sum256([]byte(t.value)) }

// Format prints a placeholder whatever the verb.
func (sessionToken) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted session token]")) }

// bearerToken returns the token that r carries, if it carries exactly one that
// could be a session's.
func bearerToken(r *http.Request) (sessionToken, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return sessionToken{}, false
	}
	scheme, text, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") {
		return sessionToken{}, false
	}
	return parseToken(text)
}

func parseToken(text string) (sessionToken, bool) {
	if len(text) != tokenLength || !strings.HasPrefix(text, TokenPrefix) {
		return sessionToken{}, false
	}
	return sessionToken{text}, true
}
