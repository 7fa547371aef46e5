package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tokenkithq/authz/apikey"
)

// maxExportLine is the longest line of an export in bytes, far above that of
// the largest key.
const maxExportLine = 1 << 20

// ExportReader receives what [ReadExport] reads.
type ExportReader struct {
	// User and Key are called with each, and with the number of its line from
	// 1 up. What they are given is valid and theirs to keep; their errors end
	// the reading.
	User func(line int, user *User) error
	Key  func(line int, key *apikey.Key) error
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
		if line.Export != exportFormat || line.User != nil || line.Key != nil || line.End != nil {
			return fmt.Errorf("export: expected %q, the head of an export", exportFormat)
		}
		if line.Version != exportVersion {
			return fmt.Errorf("version: expected %d, got %d; another version of the program wrote this", exportVersion, line.Version)
		}
		return nil
	}
	switch {
	case line.Export != "" || line.Version != 0:
		return errors.New("export: expected it on the first line alone")
	case line.User != nil && line.Key == nil && line.End == nil:
		return e.user(n, line.User)
	case line.Key != nil && line.User == nil && line.End == nil:
		return e.key(n, line.Key)
	case line.End != nil && line.User == nil && line.Key == nil:
		return e.end(line.End)
	}
	return errors.New(`expected one of "user", "key" and "end"`)
}

// jsonError puts an error of the decoder as one of a field.
func jsonError(err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return fmt.Errorf("%s: expected %s, got %s", wrongType.Field, wrongType.Type, wrongType.Value)
	}
	return err
}

func (e *exportReading) user(n int, line *exportUser) error {
	user := &User{ID: line.ID, Name: line.Name, Email: line.Email, PasswordHash: line.PasswordHash}
	if user.ID <= 0 {
		return &apikey.FieldError{Field: "user.id", Err: errors.New("expected a positive number")}
	}
	var err error
	if user.CreatedAt, err = parseTime(line.CreatedAt, time.Microsecond); err != nil {
		return &apikey.FieldError{Field: "user.created_at", Err: err}
	}
	if err := user.Validate(); err != nil {
		return under("user", err)
	}
	e.read.Users++
	e.read.LastUserID = max(e.read.LastUserID, user.ID)
	return e.to.User(n, user)
}

func (e *exportReading) key(n int, line *exportKey) error {
	key := &apikey.Key{
		ID: line.ID, Hint: line.Hint, Name: line.Name, Owner: line.Owner, OwnerName: line.OwnerName,
		Strict: line.Strict, RateLimitPerHour: line.RateLimitPerHour,
	}
	if err := key.Hash.UnmarshalText([]byte(line.Hash)); err != nil {
		return &apikey.FieldError{Field: "key.hash", Err: errors.New("expected 64 hexadecimal digits")}
	}
	var err error
	if key.CreatedAt, err = parseTime(line.CreatedAt, time.Microsecond); err != nil {
		return &apikey.FieldError{Field: "key.created_at", Err: err}
	}
	if key.LastUsedAt, err = parseTime(line.LastUsedAt, time.Second); err != nil {
		return &apikey.FieldError{Field: "key.last_used_at", Err: err}
	}
	for i, text := range line.AllowedOrigins {
		origin, err := apikey.ParseOriginPattern(text)
		if err != nil {
			return &apikey.FieldError{Field: fmt.Sprintf("key.allowed_origins[%d]", i), Err: err}
		}
		key.AllowedOrigins = append(key.AllowedOrigins, origin)
	}
	for i, text := range line.AllowedIPs {
		prefix, err := apikey.ParseAddressPrefix(text)
		if err != nil {
			return &apikey.FieldError{Field: fmt.Sprintf("key.allowed_ips[%d]", i), Err: err}
		}
		key.AllowedIPs = append(key.AllowedIPs, prefix)
	}
	switch {
	case key.ID <= 0:
		return &apikey.FieldError{Field: "key.id", Err: errors.New("expected a positive number")}
	case key.Owner <= 0:
		return &apikey.FieldError{Field: "key.owner", Err: errors.New("expected a positive number")}
	case key.Hash == apikey.Hash{}:
		return &apikey.FieldError{Field: "key.hash", Err: errors.New("expected 64 hexadecimal digits, not all zero")}
	}
	if err := ValidateKey(key); err != nil {
		return under("key", err)
	}
	e.read.Keys++
	e.read.LastKeyID = max(e.read.LastKeyID, key.ID)
	return e.to.Key(n, key)
}

func (e *exportReading) end(line *ExportEnd) error {
	if line.Users != e.read.Users || line.Keys != e.read.Keys {
		return fmt.Errorf("end: expected %d users and %d keys, read %d and %d", line.Users, line.Keys, e.read.Users, e.read.Keys)
	}
	if line.LastUserID < e.read.LastUserID || line.LastKeyID < e.read.LastKeyID {
		return errors.New("end: expected last ids that are not below those of the users and keys")
	}
	e.read, e.ended = *line, true
	return nil
}

func parseTime(text string, unit time.Duration) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		return time.Time{}, errors.New("expected a time as RFC 3339 writes it, such as 2026-03-01T12:00:00Z")
	}
	return t.UTC().Truncate(unit), nil
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
// [*apikey.FieldError]: what [apikey.Key.Validate] says, and a hint or owner's
// name that is not fit for a header.
func ValidateKey(key *apikey.Key) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if len(key.Hint) > maxHintLength || !utf8.ValidString(key.Hint) || strings.ContainsFunc(key.Hint, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return &apikey.FieldError{Field: "hint", Err: fmt.Errorf("expected at most %d bytes of printable characters", maxHintLength)}
	}
	if key.OwnerName != "" {
		if name, err := CanonicalUserName(key.OwnerName); err != nil || name != key.OwnerName {
			return &apikey.FieldError{Field: "owner_name", Err: errors.New("expected a user name in canonical form")}
		}
	}
	return nil
}
