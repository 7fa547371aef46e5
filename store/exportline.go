package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// exportLine is one line of an export, of which one part is set.
type exportLine struct {
	Export     string            `json:"export,omitempty"`
	Version    int               `json:"version,omitempty"`
	User       *exportUser       `json:"user,omitempty"`
	Key        *exportKey        `json:"key,omitempty"`
	Invitation *exportInvitation `json:"invitation,omitempty"`
	Event      *exportEvent      `json:"event,omitempty"`
	End        *ExportEnd        `json:"end,omitempty"`
}

// parts returns how many parts of a line are set, but for its head.
func (l *exportLine) parts() int {
	n := 0
	for _, set := range []bool{l.User != nil, l.Key != nil, l.Invitation != nil, l.Event != nil, l.End != nil} {
		if set {
			n++
		}
	}
	return n
}

type exportUser struct {
	ID           apikey.UserID `json:"id"`
	Name         string        `json:"username"`
	Email        string        `json:"email,omitempty"`
	PasswordHash string        `json:"password_hash,omitempty"`
	Role         string        `json:"role,omitempty"`       // empty: member
	CreatedAt    string        `json:"created_at,omitempty"` // RFC 3339, as all times
}

type exportKey struct {
	ID                apikey.KeyID      `json:"id"`
	Hash              string            `json:"hash"`
	Hint              string            `json:"hint,omitempty"`
	PreviousHash      string            `json:"previous_hash,omitempty"`
	PreviousHint      string            `json:"previous_hint,omitempty"`
	PreviousExpiresAt string            `json:"previous_expires_at,omitempty"`
	Name              string            `json:"name"`
	Notes             string            `json:"notes,omitempty"`
	Owner             apikey.UserID     `json:"owner"`
	OwnerName         string            `json:"owner_name,omitempty"`
	AllowedOrigins    []string          `json:"allowed_origins,omitempty"`
	AllowedIPs        []string          `json:"allowed_ips,omitempty"`
	Strict            bool              `json:"strict,omitempty"`
	RateLimitPerHour  uint32            `json:"rate_limit_per_hour,omitempty"`
	Scopes            []string          `json:"scopes,omitempty"`
	Metadata          map[string]string `json:"metadata,omitempty"`
	Disabled          bool              `json:"disabled,omitempty"`
	ExpiresAt         string            `json:"expires_at,omitempty"`
	CreatedAt         string            `json:"created_at,omitempty"`
	UpdatedAt         string            `json:"updated_at,omitempty"`
	LastUsedAt        string            `json:"last_used_at,omitempty"`
}

type exportInvitation struct {
	Hash      string `json:"hash"` // of the token
	Name      string `json:"username"`
	Email     string `json:"email,omitempty"`
	Role      string `json:"role,omitempty"`
	CreatedAt string `json:"created_at,omitempty"`
	ExpiresAt string `json:"expires_at,omitempty"`
	InvitedBy string `json:"invited_by,omitempty"`
}

type exportEvent struct {
	ID         uint64         `json:"id"`
	At         string         `json:"at,omitempty"`
	Actor      exportActor    `json:"actor"`
	Action     Action         `json:"action"`
	TargetKind string         `json:"target_kind,omitempty"`
	TargetID   int64          `json:"target_id,omitempty"`
	TargetName string         `json:"target_name,omitempty"`
	Changes    []exportChange `json:"changes,omitempty"`
}

type exportActor struct {
	Kind    ActorKind     `json:"kind"`
	User    apikey.UserID `json:"user,omitempty"`
	Name    string        `json:"name,omitempty"`
	Address string        `json:"address,omitempty"`
}

type exportChange struct {
	Field string `json:"field"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

func exportedKey(key *apikey.Key) *exportKey {
	line := &exportKey{
		ID: key.ID, Hash: key.Hash.String(), Hint: key.Hint, Name: key.Name, Notes: key.Notes, Owner: key.Owner, OwnerName: key.OwnerName,
		Strict: key.Strict, RateLimitPerHour: key.RateLimitPerHour, Disabled: key.Disabled,
		PreviousHint: key.PreviousHint, PreviousExpiresAt: formatTime(key.PreviousUntil), ExpiresAt: formatTime(key.ExpiresAt),
		CreatedAt: formatTime(key.CreatedAt), UpdatedAt: formatTime(key.UpdatedAt), LastUsedAt: formatTime(key.LastUsedAt),
	}
	if key.PreviousHash != (apikey.Hash{}) {
		line.PreviousHash = key.PreviousHash.String()
	}
	for _, origin := range key.AllowedOrigins {
		line.AllowedOrigins = append(line.AllowedOrigins, origin.String())
	}
	for _, prefix := range key.AllowedIPs {
		line.AllowedIPs = append(line.AllowedIPs, apikey.FormatAddressPrefix(prefix))
	}
	for _, scope := range key.Scopes {
		line.Scopes = append(line.Scopes, scope.String())
	}
	if len(key.Metadata) > 0 {
		line.Metadata = key.Metadata.Map()
	}
	return line
}

func exportedInvitation(invitation *Invitation) *exportInvitation {
	return &exportInvitation{
		Hash: hex.EncodeToString(invitation.ID[:]), Name: invitation.Name, Email: invitation.Email, Role: invitation.Role.String(),
		CreatedAt: formatTime(invitation.CreatedAt), ExpiresAt: formatTime(invitation.ExpiresAt), InvitedBy: invitation.InvitedBy,
	}
}

func exportedEvent(event *Event) *exportEvent {
	line := &exportEvent{
		ID: event.ID, At: formatTime(event.By.At), Action: event.Action,
		TargetKind: event.TargetKind, TargetID: event.TargetID, TargetName: event.TargetName,
		Actor: exportActor{Kind: event.By.Kind, User: event.By.User, Name: event.By.Name},
	}
	if event.By.Address.IsValid() {
		line.Actor.Address = event.By.Address.String()
	}
	for _, change := range event.Changes {
		line.Changes = append(line.Changes, exportChange(change))
	}
	return line
}

// lineReader turns the fields of one line into what they mean, and keeps the
// first error.
type lineReader struct{ err error }

func (r *lineReader) fail(field string, err error) {
	if r.err == nil && err != nil {
		r.err = &apikey.FieldError{Field: field, Err: err}
	}
}

func (r *lineReader) time(field, text string, unit time.Duration) time.Time {
	t, err := parseTime(text, unit)
	r.fail(field, err)
	return t
}

func (r *lineReader) hash(field, text string) (hash [32]byte) {
	err := (*apikey.Hash)(&hash).UnmarshalText([]byte(text))
	if err != nil || hash == [32]byte{} {
		r.fail(field, errors.New("expected 64 hexadecimal digits, not all zero"))
	}
	return hash
}

func (r *lineReader) role(field, text string) Role {
	if text == "" {
		return RoleMember
	}
	role, err := ParseRole(text)
	r.fail(field, err)
	return role
}

func (r *lineReader) positive(field string, n int64) {
	if n <= 0 {
		r.fail(field, errors.New("expected a positive number"))
	}
}

func eachOf[T any](r *lineReader, field string, texts []string, parse func(string) (T, error)) []T {
	var list []T
	for i, text := range texts {
		entry, err := parse(text)
		r.fail(fmt.Sprintf("%s[%d]", field, i), err)
		list = append(list, entry)
	}
	return list
}

func (l *exportUser) user() (*User, error) {
	var r lineReader
	r.positive("id", int64(l.ID))
	user := &User{
		ID: l.ID, Name: l.Name, Email: l.Email, PasswordHash: l.PasswordHash,
		Role: r.role("role", l.Role), CreatedAt: r.time("created_at", l.CreatedAt, time.Microsecond),
	}
	if r.err == nil {
		r.err = user.Validate()
	}
	return user, r.err
}

func (l *exportKey) key() (*apikey.Key, error) {
	var r lineReader
	r.positive("id", int64(l.ID))
	r.positive("owner", int64(l.Owner))
	key := &apikey.Key{
		ID: l.ID, Hint: l.Hint, PreviousHint: l.PreviousHint, Name: l.Name, Notes: l.Notes, Owner: l.Owner, OwnerName: l.OwnerName,
		Strict: l.Strict, RateLimitPerHour: l.RateLimitPerHour, Disabled: l.Disabled,
		Hash:           r.hash("hash", l.Hash),
		PreviousUntil:  r.time("previous_expires_at", l.PreviousExpiresAt, time.Microsecond),
		ExpiresAt:      r.time("expires_at", l.ExpiresAt, time.Microsecond),
		CreatedAt:      r.time("created_at", l.CreatedAt, time.Microsecond),
		UpdatedAt:      r.time("updated_at", l.UpdatedAt, time.Microsecond),
		LastUsedAt:     r.time("last_used_at", l.LastUsedAt, time.Second),
		AllowedOrigins: eachOf(&r, "allowed_origins", l.AllowedOrigins, apikey.ParseOriginPattern),
		AllowedIPs:     eachOf(&r, "allowed_ips", l.AllowedIPs, apikey.ParseAddressPrefix),
		Scopes:         eachOf(&r, "scopes", l.Scopes, apikey.ParseScope),
	}
	if l.PreviousHash != "" {
		key.PreviousHash = r.hash("previous_hash", l.PreviousHash)
	}
	metadata, err := apikey.NewMetadata(l.Metadata)
	key.Metadata = metadata
	if r.err == nil {
		r.err = err
	}
	if r.err == nil {
		r.err = ValidateKey(key)
	}
	return key, r.err
}

func (l *exportInvitation) invitation() (*Invitation, error) {
	var r lineReader
	invitation := &Invitation{
		ID: r.hash("hash", l.Hash), Name: l.Name, Email: l.Email, Role: r.role("role", l.Role), InvitedBy: bounded(l.InvitedBy, MaxActorName),
		CreatedAt: r.time("created_at", l.CreatedAt, time.Microsecond), ExpiresAt: r.time("expires_at", l.ExpiresAt, time.Microsecond),
	}
	if r.err == nil {
		r.err = invitation.Validate()
	}
	return invitation, r.err
}

func (l *exportEvent) event() (*Event, error) {
	var r lineReader
	if l.ID == 0 || l.ID > 1<<62 {
		r.fail("id", errors.New("expected a positive number"))
	}
	event := &Event{
		ID: l.ID, Action: l.Action, TargetKind: l.TargetKind, TargetID: l.TargetID, TargetName: l.TargetName,
		By: Actor{Kind: l.Actor.Kind, User: l.Actor.User, Name: l.Actor.Name, At: r.time("at", l.At, time.Microsecond)},
	}
	if l.Actor.Address != "" {
		address, err := netip.ParseAddr(l.Actor.Address)
		if err != nil {
			r.fail("actor.address", errors.New("expected an IPv4 or IPv6 address"))
		}
		event.By.Address = address
	}
	if event.By.At.IsZero() {
		r.fail("at", errors.New("expected a time"))
	}
	for _, change := range l.Changes {
		event.Changes = append(event.Changes, Change(change))
	}
	if r.err == nil {
		r.err = event.Validate()
	}
	return event.Stored(), r.err
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
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
