package store

import (
	"fmt"
	"slices"
)

// Role says what a user may do. The zero value is [RoleMember].
type Role uint8

// The roles, by what they may do.
const (
	RoleMember Role = iota // has keys of their own
	RoleViewer             // sees all that an admin sees, and changes nothing but their own password and sessions
	RoleAdmin              // manages all keys and blocked addresses, and reads the audit log
	RoleOwner              // may do everything, with users and roles too
)

var roleNames = [...]string{RoleMember: "member", RoleViewer: "viewer", RoleAdmin: "admin", RoleOwner: "owner"}

// Roles lists every role, from the one that may do the least.
func Roles() []Role { return []Role{RoleMember, RoleViewer, RoleAdmin, RoleOwner} }

// ParseRole reads what [Role.String] writes.
func ParseRole(text string) (Role, error) {
	if n := slices.Index(roleNames[:], text); n >= 0 {
		return Role(n), nil
	}
	return 0, fmt.Errorf("expected one of %q", roleNames)
}

// Valid reports whether r is one of [Roles].
func (r Role) Valid() bool { return int(r) < len(roleNames) }

// String returns the name of the role: "owner", "admin", "viewer" or
// "member".
func (r Role) String() string {
	if !r.Valid() {
		return fmt.Sprintf("Role(%d)", uint8(r))
	}
	return roleNames[r]
}

// MarshalText returns the name of the role.
func (r Role) MarshalText() ([]byte, error) {
	if !r.Valid() {
		return nil, fmt.Errorf("role %d: expected at most %d", uint8(r), len(roleNames)-1)
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads the name of a role.
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}
