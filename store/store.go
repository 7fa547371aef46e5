// Package store says what keeping API keys, users, sessions and the audit log
// means, whatever keeps them, and caches the keys that Checks look up.
//
// A [Store] is opened by one of the packages below this one, and decorated by
// an [Index], which answers searches, and a [Cache]:
//
//	keys, err := bolt.Open(ctx, path, bolt.Options{})
//	cached := store.NewCache(store.NewIndex(keys), store.CacheOptions{})
//	key, err := cached.FindKey(ctx, secret.Hash())
//
// Whoever changes something says who does:
//
//	by := store.Actor{Kind: store.ActorUser, User: user.ID, Name: user.Name, Address: from, At: now}
//	key, err := cached.UpdateKey(ctx, user.ID, id, func(key *apikey.Key) error {
//		key.Disabled = true
//		return nil
//	}, by)
//	events, err := cached.ListEvents(ctx, store.EventFilter{TargetKind: store.TargetKey, TargetID: int64(id)})
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
	// ErrNotFound says that no such key, user, session or invitation exists,
	// or that it belongs to somebody else.
	ErrNotFound = apikey.ErrNotFound
	// ErrExists says that the name, address, hash or id is taken.
	ErrExists = errors.New("already exists")
	// ErrConflict says that what was to be changed is not what the change
	// was made for.
	ErrConflict = errors.New("was changed meanwhile")
	// ErrInUse says that a user still owns keys.
	ErrInUse = errors.New("still owns keys")
	// ErrLastOwner says that a change would leave nobody with [RoleOwner].
	ErrLastOwner = errors.New("is the last owner")
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

// MaxBatch is the most keys that one change may create or delete.
const MaxBatch = 100

// Store keeps keys, users, sessions, invitations and the audit log.
// Implementations must be safe for concurrent use, and must
//
//   - acknowledge a change only when it survives a crash of the machine;
//   - make every change whole or not at all;
//   - keep the [Event] of a change that has an [Actor] in that same change,
//     with what the change found and left; a call that fails, or finds
//     nothing to change, leaves none;
//   - show an acknowledged change to every later read;
//   - return ctx's error, wrapped, soon after ctx is done, and for a change
//     [ErrUnavailable] as well, since it may still be made;
//   - hand out keys that the caller may keep but not change, and keep nothing
//     that the caller may change;
//   - never put a hash of a password, session or invitation into an error or
//     an event, nor the hash of a key.
type Store interface {
	Keys
	Users
	Invitations
	Sessions
	Audit
	// Close waits for changes under way and releases the store. Calls made
	// afterwards return [ErrClosed].
	Close() error
}

// Keys is the part of a [Store] that keeps API keys. Where owner is not zero,
// a key of another owner is ErrNotFound.
type Keys interface {
	// FindKey returns the key whose Hash or PreviousHash this is, or
	// ErrNotFound. The previous one is found as long as the key holds it;
	// [apikey.Key.Answers] tells whether it still answers.
	FindKey(ctx context.Context, hash apikey.Hash) (*apikey.Key, error)
	// Key returns the key with this id, or ErrNotFound.
	Key(ctx context.Context, owner apikey.UserID, id apikey.KeyID) (*apikey.Key, error)
	// CreateKey keeps a copy of key under a new id and returns it. The id in
	// key must be zero, its owner must exist (ErrNotFound) and its hashes must
	// be those of no other key (ErrExists).
	CreateKey(ctx context.Context, key *apikey.Key, by Actor) (*apikey.Key, error)
	// CreateKeys does so with up to [MaxBatch] keys, all or none. The field of
	// an error is below keys[i].
	CreateKeys(ctx context.Context, keys []*apikey.Key, by Actor) ([]*apikey.Key, error)
	// UpdateKey hands change a copy of the key, keeps what change makes of it,
	// and returns that. What change does not see is what nobody else can
	// change meanwhile. An error of change is returned, wrapped, and nothing is
	// changed; ErrExists where a new hash is that of another key.
	//
	// change must leave the id, owner and time of creation as they are; the
	// times of the last change and use are the store's. A new Hash is a
	// rotation, of which change sets the previous one, too. Other changes wait
	// for change, so it must not wait, nor call the store; it may be called
	// more than once, each time with a new copy, and where UpdateKey returned
	// [ErrUnavailable], even afterwards.
	UpdateKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, change func(*apikey.Key) error, by Actor) (*apikey.Key, error)
	// DeleteKey removes a key and returns what it was. Its id is never used
	// again.
	DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, by Actor) (*apikey.Key, error)
	// DeleteKeys does so with up to [MaxBatch] keys, all or none. The field of
	// an error is key_ids[i].
	DeleteKeys(ctx context.Context, owner apikey.UserID, ids []apikey.KeyID, by Actor) ([]*apikey.Key, error)
	// ListKeys returns the keys of owner, or of all users where owner is
	// zero, by ascending id.
	ListKeys(ctx context.Context, owner apikey.UserID) ([]*apikey.Key, error)
	// EachKey calls fn with what ListKeys returns, one at a time, until it
	// returns an error, which EachKey returns, wrapped. fn must not call the
	// store.
	EachKey(ctx context.Context, owner apikey.UserID, fn func(*apikey.Key) error) error
	// SearchKeys returns a page of the keys that filter describes, the newest
	// first.
	SearchKeys(ctx context.Context, filter KeyFilter) (KeyPage, error)
	// TouchKeys sets when keys were last used, in whole seconds. It skips
	// keys that no longer exist and never moves a time back.
	TouchKeys(ctx context.Context, used map[apikey.KeyID]time.Time) error
}

// Users is the part of a [Store] that keeps users.
type Users interface {
	// CreateUser keeps user under a new id and returns it. ErrExists where
	// the name or address is taken, as a name or as an address. Where there is
	// no user yet, the role is [RoleOwner], whatever user says.
	CreateUser(ctx context.Context, user *User, by Actor) (*User, error)
	// FindUser returns the user with this canonical name or address, or
	// ErrNotFound.
	FindUser(ctx context.Context, nameOrEmail string) (*User, error)
	// User returns the user with this id, or ErrNotFound.
	User(ctx context.Context, id apikey.UserID) (*User, error)
	// ListUsers returns all users by ascending id.
	ListUsers(ctx context.Context) ([]*User, error)
	// UpdateUser does with a user's address and role what [Keys.UpdateKey]
	// does with a key; change must leave all else as it is. ErrExists where
	// the address is taken, [ErrLastOwner] where no owner would be left.
	UpdateUser(ctx context.Context, id apikey.UserID, change func(*User) error, by Actor) (*User, error)
	// DeleteUser removes a user and the user's sessions, and returns what the
	// user was. [ErrInUse] where the user owns keys, [ErrLastOwner] where no
	// owner would be left. The id is never used again.
	DeleteUser(ctx context.Context, id apikey.UserID, by Actor) (*User, error)
	// SetPasswordHash changes a user's password hash from old to new and ends
	// all sessions of that user but keep, in the same change. ErrNotFound
	// where there is no such user, [ErrConflict] where the hash is not old; an
	// empty old stands for any. A nil keep keeps none.
	SetPasswordHash(ctx context.Context, id apikey.UserID, old, new string, keep *SessionID, by Actor) error
}

// Invitations is the part of a [Store] that keeps invitations.
type Invitations interface {
	// CreateInvitation keeps invitation, in the place of one for the same
	// name. Its name and address must be no user's, and its id new
	// (ErrExists). Those that ended before by.At are removed.
	CreateInvitation(ctx context.Context, invitation *Invitation, by Actor) error
	// FindInvitation returns the invitation with this id, ended or not, or
	// ErrNotFound.
	FindInvitation(ctx context.Context, id InvitationID) (*Invitation, error)
	// ListInvitations returns all invitations, ended or not, by time of
	// creation, the newest first.
	ListInvitations(ctx context.Context) ([]*Invitation, error)
	// DeleteInvitation takes an invitation back, or returns ErrNotFound.
	DeleteInvitation(ctx context.Context, id InvitationID, by Actor) (*Invitation, error)
	// AcceptInvitation makes the user who was invited, with this password
	// hash, created at by.At, removes the invitation in the same change, and
	// returns the user. ErrNotFound where there is no such invitation or it
	// has ended at by.At, ErrExists where its name or address was taken
	// meanwhile. The actor of the event is the new user.
	AcceptInvitation(ctx context.Context, id InvitationID, passwordHash string, by Actor) (*User, error)
}

// Sessions is the part of a [Store] that keeps sign-ins.
type Sessions interface {
	// CreateSession keeps session. Its user must exist (ErrNotFound) and its
	// id must be new (ErrExists).
	CreateSession(ctx context.Context, session *Session, by Actor) error
	// FindSession returns the session with this id, ended or not, or
	// ErrNotFound.
	FindSession(ctx context.Context, id SessionID) (*Session, error)
	// ListSessions returns the sessions of user, or of all users where user is
	// zero, ended or not, by time of creation, the newest first.
	ListSessions(ctx context.Context, user apikey.UserID) ([]*Session, error)
	// DeleteSession ends a session; one that does not exist is no error.
	DeleteSession(ctx context.Context, id SessionID, by Actor) error
	// DeleteSessions ends all sessions of user but keep and returns how many
	// they were. A nil keep keeps none.
	DeleteSessions(ctx context.Context, user apikey.UserID, keep *SessionID, by Actor) (int, error)
	// TouchSessions sets when sessions were last seen, in whole seconds. It
	// skips sessions that no longer exist and never moves a time back.
	TouchSessions(ctx context.Context, seen map[SessionID]time.Time) error
	// DeleteExpiredSessions removes the sessions that ended before now and
	// returns how many they were. It leaves no event.
	DeleteExpiredSessions(ctx context.Context, now time.Time) (int, error)
}

// Audit is the part of a [Store] that keeps the audit log. It keeps the newest
// events, of a number that its implementation says.
type Audit interface {
	// AppendEvent keeps a copy of event under a new id, greater than all
	// before. It is for what changes nothing in the store. The id in event
	// must be zero.
	AppendEvent(ctx context.Context, event *Event) error
	// ListEvents returns the events that filter describes, the newest first.
	ListEvents(ctx context.Context, filter EventFilter) ([]*Event, error)
}
