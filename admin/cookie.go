package admin

import (
	"net/http"
	"time"
)

// The names of the cookie that holds a session's token. Browsers take the one
// that begins with __Host- only over TLS and from the host itself, so that no
// neighbour can plant it.
const (
	secureCookieName = "__Host-tokenkit-session"
	plainCookieName  = "tokenkit-session"
)

// sessionCookie writes and reads the cookie by which pages are signed in. It
// is out of reach of scripts, and browsers send it with no request that another
// site began.
type sessionCookie struct {
	secure bool // browsers reach us over TLS
}

func (c sessionCookie) name() string {
	if c.secure {
		return secureCookieName
	}
	return plainCookieName
}

// token returns the token that r's cookie holds, if there is exactly one that
// could be a session's.
func (c sessionCookie) token(r *http.Request) (sessionToken, bool) {
	cookies := r.CookiesNamed(c.name())
	if len(cookies) != 1 {
		return sessionToken{}, false
	}
	return parseToken(cookies[0].Value)
}

// set returns the header that puts a session into a browser until it ends.
func (c sessionCookie) set(token sessionToken, ends time.Time, now time.Time) string {
	cookie := c.bare()
	cookie.Value, cookie.Expires = token.reveal(), ends
	cookie.MaxAge = max(1, int(ends.Sub(now)/time.Second))
	return cookie.String()
}

// clear returns the header that takes the cookie from a browser.
func (c sessionCookie) clear() string {
	cookie := c.bare()
	cookie.MaxAge = -1
	return cookie.String()
}

func (c sessionCookie) bare() *http.Cookie {
	return &http.Cookie{Name: c.name(), Path: "/", HttpOnly: true, Secure: c.secure, SameSite: http.SameSiteStrictMode}
}
