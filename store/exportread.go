package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tokenkithq/authz/apikey"
)

// maxExportLine is the longest line of an export in bytes, far above that of
// the largest key.
const maxExportLine = 1 << 20

// ExportReader receives what [ReadExport] reads.
type ExportReader struct {
	// All are called with each, and with the number of its line from 1 up.
	// What they are given is valid and theirs to keep; their errors end the
	// reading.
	User       func(line int, user *User) error
	Key        func(line int, key *apikey.Key) error
	Invitation func(line int, invitation *Invitation) error
	Event      func(line int, event *Event) error
}

// ReadExport reads an export to its end. The error names the line, and the
// field where one is to blame, and says what was expected; whatever was read
// by then is to be dropped. It never shows a password hash.
func ReadExport(r io.Reader, to ExportReader) (ExportEnd, error) {
	e := &exportReading{to: to}
	lines := bufio.NewReaderSize(r, 1<<16)
	for n := 1; ; n++ {
		text, err := readLine(lines)
		if errors.Is(err, io.EOF) {
			if !e.ended {
				return e.read, fmt.Errorf("line %d: expected more lines, up to that with \"end\"; this is a part of an export", n)
			}
			return e.read, nil
		}
		if err == nil {
			err = e.line(n, text)
		}
		if err != nil {
			return e.read, fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// readLine returns a line without its end, or io.EOF after the last one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxExportLine {
			return nil, fmt.Errorf("expected a line of at most %d bytes", maxExportLine)
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return line, nil
		case err != nil:
			return nil, err
		default:
			return line, nil
		}
	}
}

type exportReading struct {
	to    ExportReader
	read  ExportEnd
	ended bool
}

func (e *exportReading) line(n int, text []byte) error {
	if e.ended {
		return errors.New(`expected nothing after the line with "end"`)
	}
	if !utf8.Valid(text) {
		return errors.New("expected valid UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var line exportLine
	if err := decoder.Decode(&line); err != nil {
		return jsonError(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("expected one JSON object")
	}
	if n == 1 {
		if line.Export != exportFormat || line.parts() > 0 {
			return fmt.Errorf("export: expected %q, the head of an export", exportFormat)
		}
		if line.Version < 1 || line.Version > exportVersion {
			return fmt.Errorf("version: expected 1 to %d, got %d; another version of the program wrote this", exportVersion, line.Version)
		}
		return nil
	}
	if line.Export != "" || line.Version != 0 {
		return errors.New("export: expected it on the first line alone")
	}
	if line.parts() != 1 {
		return errors.New(`expected one of "user", "key", "invitation", "event" and "end"`)
	}
	switch {
	case line.User != nil:
		e.read.Users++
		e.read.LastUserID = max(e.read.LastUserID, line.User.ID)
		return read(n, "user", line.User.user, e.to.User)
	case line.Key != nil:
		e.read.Keys++
		e.read.LastKeyID = max(e.read.LastKeyID, line.Key.ID)
		return read(n, "key", line.Key.key, e.to.Key)
	case line.Invitation != nil:
		e.read.Invitations++
		return read(n, "invitation", line.Invitation.invitation, e.to.Invitation)
	case line.Event != nil:
		e.read.Events++
		e.read.LastEventID = max(e.read.LastEventID, line.Event.ID)
		return read(n, "event", line.Event.event, e.to.Event)
	}
	return e.end(line.End)
}

// read hands on what a line holds.
func read[T any](n int, what string, from func() (*T, error), to func(int, *T) error) error {
	value, err := from()
	if err != nil {
		return under(what, err)
	}
	return to(n, value)
}

// jsonError puts an error of the decoder as one of a field.
func jsonError(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return fmt.Errorf("%s: expected %s, got %s", wrongType.Field, wrongType.Type, wrongType.Value)
	}
	return err
}

func (e *exportReading) end(line *ExportEnd) error {
	for _, c := range []struct {
		what       string
		said, read int
	}{
		{"users", line.Users, e.read.Users}, {"keys", line.Keys, e.read.Keys},
		{"invitations", line.Invitations, e.read.Invitations}, {"events", line.Events, e.read.Events},
	} {
		if c.said != c.read {
			return fmt.Errorf("end: expected %d %s, read %d", c.said, c.what, c.read)
		}
	}
	if line.LastUserID < e.read.LastUserID || line.LastKeyID < e.read.LastKeyID || line.LastEventID < e.read.LastEventID {
		return errors.New("end: expected last ids that are not below those of the users, keys and events")
	}
	if line.LastEventID > 1<<62 {
		return errors.New("end: expected a last event's id of at most 2^62")
	}
	e.read, e.ended = *line, true
	return nil
}

// under puts the field of err below another.
func under(parent string, err error) error {
	var field *apikey.FieldError
	if errors.As(err, &field) {
		return &apikey.FieldError{Field: parent + "." + field.Field, Err: field.Err}
	}
	return err
}

// maxHintLength bounds a key's hint in bytes.
const maxHintLength = 32

// ValidateKey reports the first field of key that a store must not keep, as an
// [*apikey.FieldError]: what [apikey.Key.Validate] says, a hint or owner's name
// that is not fit for a header, and a previous secret that is not whole.
func ValidateKey(key *apikey.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	for _, hint := range []struct{ field, text string }{{"hint", key.Hint}, {"previous_hint", key.PreviousHint}} {
		if len(hint.text) > maxHintLength || !utf8.ValidString(hint.text) || strings.ContainsFunc(hint.text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return &apikey.FieldError{Field: hint.field, Err: fmt.Errorf("expected at most %d bytes of printable characters", maxHintLength)}
		}
	}
	switch {
	case key.Hash == apikey.Hash{}:
		return &apikey.FieldError{Field: "hash", Err: errors.New("expected one that is not all zero")}
	case key.PreviousHash == apikey.Hash{} && (key.PreviousHint != "" || !key.PreviousUntil.IsZero()):
		return &apikey.FieldError{Field: "previous_hash", Err: errors.New("expected one, since there is a hint or an end of it")}
	case key.PreviousHash != apikey.Hash{} && key.PreviousUntil.IsZero():
		return &apikey.FieldError{Field: "previous_expires_at", Err: errors.New("expected a time, since there is a previous secret")}
	case key.PreviousHash == key.Hash:
		return &apikey.FieldError{Field: "previous_hash", Err: errors.New("expected another than the present one")}
	}
	if key.OwnerName != "" {
		if name, err := CanonicalUserName(key.OwnerName); err != nil || name != key.OwnerName {
			return &apikey.FieldError{Field: "owner_name", Err: errors.New("expected a user name in canonical form")}
		}
	}
	return nil
}
