// Package store says what keeping API keys, users and sessions means,
// whatever keeps them, and caches the keys that Checks look up.
//
// A [Store] is opened by one of the packages below this one and decorated by
// a [Cache]:
//
//	keys, err := bolt.Open(ctx, path, bolt.Options{})
//	cached := store.NewCache(keys, store.CacheOptions{})
//	key, err := cached.FindKey(ctx, secret.Hash())
//
// Package storetest holds the suite that every implementation passes.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Errors that every Store returns, wrapped with what was being done.
var (
	// ErrNotFound says that no such key, user or session exists, or that it
	// belongs to somebody else.
	ErrNotFound = apikey.ErrNotFound
	// ErrExists says that the name, address, hash or id is taken.
	ErrExists = errors.New("already exists")
	// ErrFull says that a change was refused for want of space.
	ErrFull = errors.New("no space left for the change")
	// ErrUnavailable says that a change could not be made, or not be
	// confirmed in time; it may be tried again. A change that was not
	// confirmed in time may still have been made.
	ErrUnavailable = errors.New("storage is not available")
	// ErrDamaged says that stored data fails its checksum. It is never
	// returned for data that merely does not exist.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// User is somebody who owns keys and signs in.
type User struct {
	ID apikey.UserID
	// Name is the canonical user name, unique; see [CanonicalUserName].
	Name string
	// Email is the canonical address, unique where not empty.
	Email string
	// PasswordHash is an argon2id hash in PHC string format.
	PasswordHash string
	CreatedAt    time.Time // UTC, whole microseconds
}

// SessionID is the SHA-256 of a session's token, the only form that is stored.
type SessionID [32]byte

// Session is one sign-in of a user.
type Session struct {
	ID        SessionID
	User      apikey.UserID
	CreatedAt time.Time // UTC, whole microseconds
	// ExpiresAt is when the session ends, used or not.
	ExpiresAt time.Time
}

// Store keeps keys, users and sessions. Implementations must be safe for
// concurrent use, and must
//
//   - acknowledge a change only when it survives a crash of the machine;
//   - make every change whole or not at all;
//   - show an acknowledged change to every later read;
//   - return ctx's error, wrapped, soon after ctx is done, and for a change
//     [ErrUnavailable] as well, since it may still be made;
//   - hand out keys that the caller may keep but not change, and keep nothing
//     that the caller may change;
//   - never put a hash of a password or session into an error.
type Store interface {
	Keys
	Users
	Sessions
	// Close waits for changes under way and releases the store. Calls made
	// afterwards return [ErrClosed].
	Close() error
}

// Keys is the part of a [Store] that keeps API keys.
type Keys interface {
	// FindKey returns the key with this hash, or ErrNotFound.
	FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error)
	// CreateKey keeps a copy of key under a new id and returns it. The id in
	// key must be zero, its owner must exist (ErrNotFound) and its hash must
	// be new (ErrExists).
	CreateKey(ctx context.Context, key *apikey.Key) (*apikey.Key, error)
	// ListKeys returns the keys of owner, or of all users where owner is
	// zero, by ascending id.
	ListKeys(ctx context.Context, owner apikey.UserID) ([]*apikey.Key, error)
	// DeleteKey removes a key and returns what it was. Where owner is not
	// zero, a key of another owner is ErrNotFound. Its id is never used
	// again.
	DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID) (*apikey.Key, error)
	// TouchKeys sets when keys were last used, in whole seconds. It skips
	// keys that no longer exist and never moves a time back.
	TouchKeys(ctx context.Context, used map[apikey.KeyID]time.Time) error
}

// Users is the part of a [Store] that keeps users.
type Users interface {
	// CreateUser keeps user under a new id and returns it. ErrExists where
	// the name or address is taken, as a name or as an address.
	CreateUser(ctx context.Context, user *User) (*User, error)
	// FindUser returns the user with this canonical name or address, or
	// ErrNotFound.
	FindUser(ctx context.Context, nameOrEmail string) (*User, error)
	// User returns the user with this id, or ErrNotFound.
	User(ctx context.Context, id apikey.UserID) (*User, error)
	// ListUsers returns all users by ascending id.
	ListUsers(ctx context.Context) ([]*User, error)
	// SetPasswordHash changes a user's password hash and ends all sessions of
	// that user in the same change, or returns ErrNotFound.
	SetPasswordHash(ctx context.Context, id apikey.UserID, hash string) error
}

// Sessions is the part of a [Store] that keeps sign-ins.
type Sessions interface {
	// CreateSession keeps session. Its user must exist (ErrNotFound) and its
	// id must be new (ErrExists).
	CreateSession(ctx context.Context, session *Session) error
	// FindSession returns the session with this id, ended or not, or
	// ErrNotFound.
	FindSession(ctx context.Context, id SessionID) (*Session, error)
	// DeleteSession ends a session; one that does not exist is no error.
	DeleteSession(ctx context.Context, id SessionID) error
	// DeleteExpiredSessions removes the sessions that ended before now and
	// returns how many they were.
	DeleteExpiredSessions(ctx context.Context, now time.Time) (int, error)
}
