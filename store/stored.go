package store

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tokenkithq/authz/apikey"
)

// StoredKey returns a copy of key as a store keeps it and hands it out: with
// all times in UTC, in whole microseconds but for that of the last use, and
// empty lists nil.
func StoredKey(key *apikey.Key) *apikey.Key {
	stored := key.Clone()
	stored.PreviousUntil = storedTime(key.PreviousUntil)
	stored.ExpiresAt = storedTime(key.ExpiresAt)
	stored.CreatedAt = storedTime(key.CreatedAt)
	stored.UpdatedAt = storedTime(key.UpdatedAt)
	stored.LastUsedAt = wholeSeconds(key.LastUsedAt)
	stored.AllowedOrigins = nilIfEmpty(stored.AllowedOrigins)
	stored.AllowedIPs = nilIfEmpty(stored.AllowedIPs)
	stored.Scopes = nilIfEmpty(stored.Scopes)
	stored.Metadata = nilIfEmpty(stored.Metadata)
	return stored
}

func nilIfEmpty[S ~[]E, E any](s S) S {
	if len(s) == 0 {
		return nil
	}
	return s
}

// StoredUser returns a copy of user as a store keeps it and hands it out.
func StoredUser(user *User) *User {
	stored := *user
	stored.CreatedAt = storedTime(user.CreatedAt)
	return &stored
}

// storedTime returns a time as stores keep it: UTC, in whole microseconds.
func storedTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMicro(t.UnixMicro()).UTC()
}

func wholeSeconds(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.Unix(t.Unix(), 0).UTC()
}

// bounded returns text that came from outside as it may stand in a list: at
// most limit bytes of valid UTF-8, with a space for what is not printable.
func bounded(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text[:min(len(text), limit)])
	return strings.TrimSpace(text)
}
