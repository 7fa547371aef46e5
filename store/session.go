package store

import (
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// MaxUserAgent is the most of a client's name that is kept, in bytes.
const MaxUserAgent = 200

// SessionID is the SHA-256 of a session's token, the only form that is stored.
type SessionID [32]byte

// Public returns the name by which people tell sessions apart: 16 hexadecimal
// digits, which are of no use for signing in.
func (id SessionID) Public() string { return hex.EncodeToString(id[:8]) }

// Session is one sign-in of a user.
type Session struct {
	ID        SessionID
	User      apikey.UserID
	CreatedAt time.Time // UTC, whole microseconds
	// ExpiresAt is when the session ends, used or not.
	ExpiresAt time.Time
	// LastSeenAt is when the session was last used, in UTC and whole seconds;
	// it may lag by a write-behind interval. Zero: not since it began.
	LastSeenAt time.Time
	// Address is where the sign-in came from. Invalid: not known.
	Address netip.Addr
	// UserAgent is what the client called itself then. A store keeps the first
	// [MaxUserAgent] bytes, and a space for what is not printable.
	UserAgent string
}

// Stored returns the session as a store keeps it and hands it out.
func (s *Session) Stored() *Session {
	stored := *s
	stored.CreatedAt, stored.ExpiresAt = storedTime(s.CreatedAt), storedTime(s.ExpiresAt)
	stored.LastSeenAt = wholeSeconds(s.LastSeenAt)
	stored.Address = apikey.CanonicalAddress(s.Address)
	stored.UserAgent = bounded(s.UserAgent, MaxUserAgent)
	return &stored
}

// InvitationID is the SHA-256 of an invitation's token, the only form that is
// stored.
type InvitationID [32]byte

// Public returns the name by which people tell invitations apart: 16
// hexadecimal digits, which are of no use for accepting one.
func (id InvitationID) Public() string { return hex.EncodeToString(id[:8]) }

// Invitation lets whoever has its token become a user.
type Invitation struct {
	ID InvitationID
	// Name, Email and Role are the user's who is invited; see [User].
	Name      string
	Email     string
	Role      Role
	CreatedAt time.Time // UTC, whole microseconds
	ExpiresAt time.Time // UTC, whole microseconds
	// InvitedBy is the name of who invites.
	InvitedBy string
}

// Validate reports the first field of the invitation that breaks a rule, as
// [User.Validate] does.
func (i *Invitation) Validate() error {
	return (&User{Name: i.Name, Email: i.Email, Role: i.Role}).Validate()
}

// Stored returns the invitation as a store keeps it and hands it out.
func (i *Invitation) Stored() *Invitation {
	stored := *i
	stored.CreatedAt, stored.ExpiresAt = storedTime(i.CreatedAt), storedTime(i.ExpiresAt)
	stored.InvitedBy = bounded(i.InvitedBy, MaxEmailLength)
	return &stored
}
