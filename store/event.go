package store

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// ActorKind says what sort of somebody an [Actor] is. Empty is [ActorSystem].
type ActorKind string

// The kinds of actors.
const (
	ActorUser     ActorKind = "user"     // a user, or somebody who tried to be one
	ActorOperator ActorKind = "operator" // whoever runs the command line
	ActorSystem   ActorKind = "system"   // the program itself
)

// MaxActorName bounds the name of an actor, in bytes.
const MaxActorName = MaxEmailLength

// Actor says who makes a change, for the audit log. The zero Actor is the
// program itself, at the time when the store is told.
type Actor struct {
	Kind ActorKind
	User apikey.UserID // of a user; zero where a login failed
	// Name is a user's canonical name, or what somebody tried to sign in as.
	// A store keeps the first [MaxActorName] bytes, and a space for what is
	// not printable.
	Name    string
	Address netip.Addr // where from; invalid: not known, or this machine
	At      time.Time  // zero: now
}

// Stored returns the actor as a store keeps it: bounded, with a kind and a
// time in UTC and whole microseconds.
func (a Actor) Stored() Actor {
	if a.Kind == "" {
		a.Kind = ActorSystem
	}
	if a.At.IsZero() {
		a.At = time.Now()
	}
	a.Name = bounded(a.Name, MaxActorName)
	a.Address = apikey.CanonicalAddress(a.Address)
	a.At = storedTime(a.At)
	return a
}

// Action names what was done.
type Action string

// The actions that stores and the admin API note.
const (
	ActionCreateKey = Action("key.create")
	ActionUpdateKey = Action("key.update")
	ActionRotateKey = Action("key.rotate")
	ActionDeleteKey = Action("key.delete")

	ActionCreateUser  = Action("user.create")
	ActionUpdateUser  = Action("user.update")
	ActionDeleteUser  = Action("user.delete")
	ActionSetPassword = Action("user.password")
	ActionInvite      = Action("user.invite")
	ActionUninvite    = Action("user.uninvite") // an invitation was taken back
	ActionJoin        = Action("user.join")     // an invitation was accepted

	ActionLogin     = Action("session.create")
	ActionLogout    = Action("session.delete") // of one session, or of a user's others
	ActionLoginFail = Action("login.fail")

	ActionUnblock = Action("address.unblock")
	ActionBackup  = Action("store.backup")
	ActionImport  = Action("store.import")
)

// The kinds of what an action is done to.
const (
	TargetKey     = "key"
	TargetUser    = "user"
	TargetSession = "session"
	TargetAddress = "address"
	TargetStore   = "store"
)

// Limits of an event, all inclusive.
const (
	MaxEventText    = 500       // bytes of an action and of what names a target
	MaxEventChanges = 64        // changes
	MaxChangeText   = 8192      // bytes of each side of a change
	MaxEventSize    = 128 << 10 // bytes of all changes
)

// Event is one entry of the audit log: that somebody did something. Events that
// a store has handed out are the caller's.
type Event struct {
	ID     uint64 // ascending, never used again
	By     Actor  // who, from where, and when
	Action Action
	// TargetKind, TargetID and TargetName say to what. TargetID is the id of a
	// key or user, and zero for others. TargetName is the name of a key or
	// user at that time, a session's [SessionID.Public], or an address.
	TargetKind string
	TargetID   int64
	TargetName string
	Changes    []Change
}

// Change is a field that an action changed, under its name in the admin API.
// From and To are JSON as that API shows them, lists perhaps cut; empty on the
// side where there was nothing yet, or is nothing any more.
type Change struct{ Field, From, To string }

// Validate reports what keeps an event out of an audit log, as an
// [*apikey.FieldError].
func (e *Event) Validate() error {
	if e.Action == "" || len(e.Action) > MaxEventText {
		return &apikey.FieldError{Field: "action", Err: fmt.Errorf("expected 1 to %d bytes", MaxEventText)}
	}
	switch e.By.Kind {
	case ActorUser, ActorOperator, ActorSystem, "":
	default:
		return &apikey.FieldError{Field: "actor", Err: fmt.Errorf("expected %q, %q or %q", ActorUser, ActorOperator, ActorSystem)}
	}
	if e.By.User < 0 {
		return &apikey.FieldError{Field: "actor", Err: errors.New("expected the id of a user, or zero")}
	}
	if len(e.TargetKind) > MaxEventText || len(e.TargetName) > MaxEventText {
		return &apikey.FieldError{Field: "target", Err: fmt.Errorf("expected at most %d bytes", MaxEventText)}
	}
	if e.TargetID < 0 {
		return &apikey.FieldError{Field: "target", Err: errors.New("expected an id, or zero")}
	}
	if len(e.Changes) > MaxEventChanges {
		return &apikey.FieldError{Field: "changes", Err: fmt.Errorf("expected at most %d, got %d", MaxEventChanges, len(e.Changes))}
	}
	size := 0
	for _, c := range e.Changes {
		size += len(c.Field) + len(c.From) + len(c.To)
		if c.Field == "" || len(c.Field) > MaxEventText || len(c.From) > MaxChangeText || len(c.To) > MaxChangeText {
			return &apikey.FieldError{Field: "changes", Err: fmt.Errorf("expected a field's name, and at most %d bytes on each side", MaxChangeText)}
		}
	}
	if size > MaxEventSize {
		return &apikey.FieldError{Field: "changes", Err: fmt.Errorf("expected at most %d bytes in all", MaxEventSize)}
	}
	return nil
}

// Stored returns the event as a store keeps it and hands it out.
func (e *Event) Stored() *Event {
	stored := *e
	stored.By = e.By.Stored()
	stored.TargetName = bounded(e.TargetName, MaxEventText)
	stored.Changes = append([]Change(nil), e.Changes...)
	return &stored
}

// DefaultEvents is how many events [Audit.ListEvents] returns at most where its
// filter does not say, and MaxEvents where it asks for more.
const (
	DefaultEvents = 100
	MaxEvents     = 1000
)

// EventFilter describes events. The zero value describes all, the newest
// [DefaultEvents] of them.
type EventFilter struct {
	Before uint64 // only those with a smaller id; zero: all
	Limit  int    // at most [MaxEvents]

	Actor        apikey.UserID // zero: any
	ActorName    string        // exactly; empty: any
	ActionPrefix string        // such as "key." or "login.fail"
	TargetKind   string        // empty: any
	TargetID     int64         // zero: any
	From, To     time.Time     // not before From, and before To; zero: any
}

// Size returns how many events the filter asks for.
func (f *EventFilter) Size() int {
	if f.Limit <= 0 {
		return DefaultEvents
	}
	return min(f.Limit, MaxEvents)
}

// Matches reports whether the filter describes event, whatever its limit.
func (f *EventFilter) Matches(event *Event) bool {
	return (f.Before == 0 || event.ID < f.Before) &&
		(f.Actor == 0 || event.By.User == f.Actor) &&
		(f.ActorName == "" || event.By.Name == f.ActorName) &&
		strings.HasPrefix(string(event.Action), f.ActionPrefix) &&
		(f.TargetKind == "" || event.TargetKind == f.TargetKind) &&
		(f.TargetID == 0 || event.TargetID == f.TargetID) &&
		(f.From.IsZero() || !event.By.At.Before(f.From)) &&
		(f.To.IsZero() || event.By.At.Before(f.To))
}
