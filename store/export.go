package store

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/tokenkithq/authz/apikey"
)

// An export is JSON lines: a head, all users, keys, invitations and events, and
// an end, by which a part of an export is told from the whole. It holds no
// secret: keys have the hashes of theirs, and what lets people in, the hashes
// of passwords and invitations, is there only where asked for. Sessions are not
// exported. Version 1 had neither invitations nor events.
//
//	{"export":"tokenkit-authz","version":2}
//	{"user":{"id":1,"username":"ada","role":"owner","created_at":"2026-03-01T12:00:00Z"}}
//	{"key":{"id":7,"hash":"9f86…","name":"indexer-cron","owner":1,…}}
//	{"event":{"id":3,"at":"2026-03-01T12:00:00Z","actor":{"kind":"operator"},"action":"key.create",…}}
//	{"end":{"users":1,"keys":1,"events":1,"last_user_id":1,"last_key_id":9,"last_event_id":3}}
const (
	exportFormat  = "tokenkit-authz"
	exportVersion = 2
)

// ExportEnd is what the last line of an export says of the whole.
type ExportEnd struct {
	Users       int `json:"users"`
	Keys        int `json:"keys"`
	Invitations int `json:"invitations,omitempty"`
	Events      int `json:"events,omitempty"`
	// LastUserID, LastKeyID and LastEventID are the last ids that were given,
	// so that those of deleted users and keys are not given again.
	LastUserID  apikey.UserID `json:"last_user_id"`
	LastKeyID   apikey.KeyID  `json:"last_key_id"`
	LastEventID uint64        `json:"last_event_id,omitempty"`
}

// LastIDs are the last ids that a store gave.
type LastIDs struct {
	User  apikey.UserID
	Key   apikey.KeyID
	Event uint64
}

// ExportWriter writes an export: users first, then keys, invitations and
// events, then [ExportWriter.Close].
type ExportWriter struct {
	to        *bufio.Writer
	encoder   *json.Encoder
	passwords bool
	end       ExportEnd
	err       error
}

// NewExportWriter begins an export to w, with invitations and the password
// hashes of users where passwords is set.
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
	line := &exportUser{ID: user.ID, Name: user.Name, Email: user.Email, Role: user.Role.String(), CreatedAt: formatTime(user.CreatedAt)}
	if e.passwords {
		line.PasswordHash = user.PasswordHash
	}
	e.end.Users++
	e.write(exportLine{User: line})
	return e.failed()
}

// Key writes one key.
func (e *ExportWriter) Key(key *apikey.Key) error {
	e.end.Keys++
	e.write(exportLine{Key: exportedKey(key)})
	return e.failed()
}

// Invitation writes one invitation, if they are asked for.
func (e *ExportWriter) Invitation(invitation *Invitation) error {
	if e.passwords {
		e.end.Invitations++
		e.write(exportLine{Invitation: exportedInvitation(invitation)})
	}
	return e.failed()
}

// Event writes one event.
func (e *ExportWriter) Event(event *Event) error {
	e.end.Events++
	e.write(exportLine{Event: exportedEvent(event)})
	return e.failed()
}

// Close writes the end.
func (e *ExportWriter) Close(last LastIDs) error {
	e.end.LastUserID, e.end.LastKeyID, e.end.LastEventID = last.User, last.Key, last.Event
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
