package store

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// An export is JSON lines: a head, all users, all keys and an end, by which a
// part of an export is told from the whole. It holds no secret: keys have the
// hashes of theirs, and users have their password hashes only where asked for.
// Sessions are not exported.
//
//	{"export":"tokenkit-authz","version":1}
//	{"user":{"id":1,"username":"ada","created_at":"2026-03-01T12:00:00Z"}}
//	{"key":{"id":7,"hash":"9f86…","name":"indexer-cron","owner":1,…}}
//	{"end":{"users":1,"keys":1,"last_user_id":1,"last_key_id":9}}
const (
	exportFormat  = "tokenkit-authz"
	exportVersion = 1
)

// exportLine is one line, of which one part is set.
type exportLine struct {
	Export  string      `json:"export,omitempty"`
	Version int         `json:"version,omitempty"`
	User    *exportUser `json:"user,omitempty"`
	Key     *exportKey  `json:"key,omitempty"`
	End     *ExportEnd  `json:"end,omitempty"`
}

type exportUser struct {
	ID           apikey.UserID `json:"id"`
	Name         string        `json:"username"`
	Email        string        `json:"email,omitempty"`
	PasswordHash string        `json:"password_hash,omitempty"`
	CreatedAt    string        `json:"created_at,omitempty"` // RFC 3339, as all times
}

type exportKey struct {
	ID               apikey.KeyID  `json:"id"`
	Hash             string        `json:"hash"`
	Hint             string        `json:"hint,omitempty"`
	Name             string        `json:"name"`
	Owner            apikey.UserID `json:"owner"`
	OwnerName        string        `json:"owner_name,omitempty"`
	AllowedOrigins   []string      `json:"allowed_origins,omitempty"`
	AllowedIPs       []string      `json:"allowed_ips,omitempty"`
	Strict           bool          `json:"strict,omitempty"`
	RateLimitPerHour uint32        `json:"rate_limit_per_hour,omitempty"`
	CreatedAt        string        `json:"created_at,omitempty"`
	LastUsedAt       string        `json:"last_used_at,omitempty"`
}

// ExportEnd is what the last line of an export says of the whole.
type ExportEnd struct {
	Users int `json:"users"`
	Keys  int `json:"keys"`
	// LastUserID and LastKeyID are the last ids that were given, so that those
	// of deleted keys are not given again.
	LastUserID apikey.UserID `json:"last_user_id"`
	LastKeyID  apikey.KeyID  `json:"last_key_id"`
}

// ExportWriter writes an export: users first, then keys, then
// [ExportWriter.Close].
type ExportWriter struct {
	to        *bufio.Writer
	encoder   *json.Encoder
	passwords bool
	end       ExportEnd
	err       error
}

// NewExportWriter begins an export to w, with the password hashes of users
// where passwords is set.
func NewExportWriter(w io.Writer, passwords bool) *ExportWriter {
	to := bufio.NewWriterSize(w, 1<<16)
	e := &ExportWriter{to: to, encoder: json.NewEncoder(to), passwords: passwords}
	e.encoder.SetEscapeHTML(false)
	e.write(exportLine{Export: exportFormat, Version: exportVersion})
	return e
}

func (e *ExportWriter) write(line exportLine) {
	if e.err == nil {
		e.err = e.encoder.Encode(line)
	}
}

// User writes one user.
func (e *ExportWriter) User(user *User) error {
	line := &exportUser{ID: user.ID, Name: user.Name, Email: user.Email, CreatedAt: formatTime(user.CreatedAt)}
	if e.passwords {
		line.PasswordHash = user.PasswordHash
	}
	e.end.Users++
	e.write(exportLine{User: line})
	return e.failed()
}

// Key writes one key.
func (e *ExportWriter) Key(key *apikey.Key) error {
	line := &exportKey{
		ID: key.ID, Hash: key.Hash.String(), Hint: key.Hint, Name: key.Name, Owner: key.Owner, OwnerName: key.OwnerName,
		Strict: key.Strict, RateLimitPerHour: key.RateLimitPerHour,
		CreatedAt: formatTime(key.CreatedAt), LastUsedAt: formatTime(key.LastUsedAt),
	}
	for _, origin := range key.AllowedOrigins {
		line.AllowedOrigins = append(line.AllowedOrigins, origin.String())
	}
	for _, prefix := range key.AllowedIPs {
		line.AllowedIPs = append(line.AllowedIPs, apikey.FormatAddressPrefix(prefix))
	}
	e.end.Keys++
	e.write(exportLine{Key: line})
	return e.failed()
}

// Close writes the end, with the last ids that were given.
func (e *ExportWriter) Close(lastUser apikey.UserID, lastKey apikey.KeyID) error {
	e.end.LastUserID, e.end.LastKeyID = lastUser, lastKey
	e.write(exportLine{End: &e.end})
	if e.err == nil {
		e.err = e.to.Flush()
	}
	return e.failed()
}

func (e *ExportWriter) failed() error {
	if e.err != nil {
		return fmt.Errorf("writing export: %w", e.err)
	}
	return nil
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
