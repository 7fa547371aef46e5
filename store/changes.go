package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// ChangeKey makes a change of [Keys.UpdateKey] to a copy of before, and returns
// it as it is to be kept, with the event of the change; before itself where
// nothing is to be changed, and no event.
func ChangeKey(before *apikey.Key, change func(*apikey.Key) error, by Actor) (*apikey.Key, *Event, error) {
	after := before.Clone()
	if err := change(after); err != nil {
		return nil, nil, err
	}
	fixed := func(field string, same bool) error {
		if same {
			return nil
		}
		return &apikey.FieldError{Field: field, Err: errors.New("expected no change")}
	}
	err := errors.Join(
		fixed("id", after.ID == before.ID),
		fixed("owner", after.Owner == before.Owner && after.OwnerName == before.OwnerName),
		fixed("created_at", after.CreatedAt.Equal(before.CreatedAt)),
	)
	if err != nil {
		return nil, nil, err
	}
	after.UpdatedAt, after.LastUsedAt = before.UpdatedAt, before.LastUsedAt
	after = StoredKey(after)
	if err := ValidateKey(after); err != nil {
		return nil, nil, err
	}
	event := KeyEvent(ActionUpdateKey, before, after, by)
	rotated := after.Hash != before.Hash
	if len(event.Changes) == 0 && !rotated && after.PreviousHash == before.PreviousHash {
		return before, nil, nil
	}
	if rotated {
		event.Action = ActionRotateKey
	}
	after.UpdatedAt = event.By.At
	return after, event, nil
}

// ChangeUser does so for [Users.UpdateUser].
func ChangeUser(before *User, change func(*User) error, by Actor) (*User, *Event, error) {
	after := *before
	if err := change(&after); err != nil {
		return nil, nil, err
	}
	fixed := after
	fixed.Email, fixed.Role = before.Email, before.Role
	if fixed != *before {
		return nil, nil, &apikey.FieldError{Field: "user", Err: errors.New("expected no change but of email and role")}
	}
	if err := after.Validate(); err != nil {
		return nil, nil, err
	}
	if after == *before {
		return before, nil, nil
	}
	return &after, UserEvent(ActionUpdateUser, before, &after, by), nil
}

// KeyEvent returns the event of an action that made after of before; nil where
// the key did not exist.
func KeyEvent(action Action, before, after *apikey.Key, by Actor) *Event {
	named := after
	if named == nil {
		named = before
	}
	return (&Event{
		By: by, Action: action, TargetKind: TargetKey, TargetID: int64(named.ID), TargetName: named.Name,
		Changes: compare(keyFields, before, after),
	}).Stored()
}

// UserEvent does so for a user.
func UserEvent(action Action, before, after *User, by Actor) *Event {
	named := after
	if named == nil {
		named = before
	}
	return (&Event{
		By: by, Action: action, TargetKind: TargetUser, TargetID: int64(named.ID), TargetName: named.Name,
		Changes: compare(userFields, before, after),
	}).Stored()
}

// PasswordEvent returns the event of a new password that ended so many
// sessions of a user, and kept so many.
func PasswordEvent(user *User, ended, kept int, by Actor) *Event {
	event := UserEvent(ActionSetPassword, user, user, by)
	event.Changes = sessionsChange(ended, kept)
	return event
}

// SessionsEvent returns the event of a [Sessions.DeleteSessions].
func SessionsEvent(user *User, ended, kept int, by Actor) *Event {
	event := UserEvent(ActionLogout, user, user, by)
	event.Changes = sessionsChange(ended, kept)
	return event
}

func sessionsChange(ended, kept int) []Change {
	if ended == 0 {
		return nil
	}
	return []Change{{"sessions", asJSON(ended + kept), asJSON(kept)}}
}

// SessionEvent returns the event of a session of user that was made or ended.
func SessionEvent(action Action, user *User, before, after *Session, by Actor) *Event {
	session := after
	if session == nil {
		session = before
	}
	fields := func(s *Session) []fieldText {
		fields := []fieldText{field("username", asJSON("")), field("user_agent", asJSON(s.UserAgent))}
		if s.User != 0 {
			fields[0].text = asJSON(user.Name)
		}
		return fields
	}
	return (&Event{
		By: by, Action: action, TargetKind: TargetSession, TargetName: session.ID.Public(), Changes: compare(fields, before, after),
	}).Stored()
}

// InvitationEvent returns the event of an invitation that was made or taken
// back.
func InvitationEvent(action Action, before, after *Invitation, by Actor) *Event {
	named := after
	if named == nil {
		named = before
	}
	fields := func(i *Invitation) []fieldText {
		return append(userFields(&User{Name: i.Name, Email: i.Email, Role: i.Role}), field("expires_at", timeJSON(i.ExpiresAt)))
	}
	return (&Event{
		By: by, Action: action, TargetKind: TargetUser, TargetName: named.Name, Changes: compare(fields, before, after),
	}).Stored()
}

// JoinEvent returns the event of a user who accepted an invitation.
func JoinEvent(user *User, by Actor) *Event {
	by.Kind, by.User, by.Name = ActorUser, user.ID, user.Name
	return UserEvent(ActionJoin, nil, user, by)
}

// fieldText is a field's value in JSON.
type fieldText struct {
	name, text string
	short      string // what to show of it; empty: all
}

func (f *fieldText) shown() string {
	if f.short != "" {
		return f.short
	}
	return f.text
}

// compare returns what differs between two records; nil is none.
func compare[T any](fields func(*T) []fieldText, before, after *T) []Change {
	var none T
	from, to := fields(&none), fields(&none)
	if before != nil {
		from = fields(before)
	}
	if after != nil {
		to = fields(after)
	}
	var changes []Change
	for i := range from {
		if from[i].text == to[i].text {
			continue
		}
		change := Change{from[i].name, from[i].shown(), to[i].shown()}
		if before == nil {
			change.From = ""
		}
		if after == nil {
			change.To = ""
		}
		changes = append(changes, change)
	}
	return changes
}

func keyFields(key *apikey.Key) []fieldText {
	var limit any
	if key.RateLimitPerHour > 0 {
		limit = key.RateLimitPerHour
	}
	return []fieldText{
		field("name", asJSON(key.Name)),
		field("owner", asJSON(key.OwnerName)),
		field("hint", asJSON(key.Hint)),
		field("previous_expires_at", timeJSON(key.PreviousUntil)),
		listField("allowed_origins", key.AllowedOrigins, apikey.OriginPattern.String),
		listField("allowed_ips", key.AllowedIPs, apikey.FormatAddressPrefix),
		field("strict", asJSON(key.Strict)),
		field("rate_limit_per_hour", asJSON(limit)),
		listField("scopes", key.Scopes, apikey.Scope.String),
		field("enabled", asJSON(!key.Disabled)),
		field("expires_at", timeJSON(key.ExpiresAt)),
		field("notes", asJSON(key.Notes)),
		field("metadata", asJSON(key.Metadata.Map())),
	}
}

func userFields(user *User) []fieldText {
	fields := []fieldText{field("username", asJSON(user.Name)), field("email", asJSON(user.Email)), field("role", asJSON(""))}
	if user.Name != "" { // there is a user, of whom no role goes without saying
		fields[2].text = asJSON(user.Role.String())
	}
	return fields
}

// asJSON returns what encoding/json makes of texts, numbers and maps of texts,
// with which it cannot fail.
func asJSON(v any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v)
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
}

func timeJSON(t time.Time) string {
	if t.IsZero() {
		return "null"
	}
	return asJSON(t.UTC().Format(time.RFC3339Nano))
}

func field(name, text string) fieldText { return fieldText{name: name, text: text} }

// listField shows a list, or as many entries as fit and how many more there
// are.
func listField[E any](name string, list []E, text func(E) string) fieldText {
	texts := make([]string, len(list))
	for i, entry := range list {
		texts[i] = text(entry)
	}
	whole := field(name, asJSON(texts))
	if len(whole.text) <= MaxChangeText {
		return whole
	}
	size := 0
	for i := range texts {
		if size += len(asJSON(texts[i])) + len(","); size > MaxChangeText-64 {
			whole.short = asJSON(append(texts[:i:i], fmt.Sprintf("… and %d more", len(texts)-i)))
			break
		}
	}
	return whole
}
