package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"pgregory.net/rapid"
)

// walk takes random steps with a store and a model, and compares them.
func walk(t *testing.T, fresh func(dir string) Opener) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "walk")
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s := begin(rt, fresh(dir))
		defer func() { _ = s.Close() }()
		m := &model{
			subject: s, keys: map[apikey.KeyID]*apikey.Key{}, touched: map[apikey.KeyID]bool{},
			users: map[apikey.UserID]*store.User{}, sessions: map[store.SessionID]*store.Session{},
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create user": m.createUser, "update user": m.updateUser, "delete user": m.deleteUser, "set password": m.setPassword, "find user": m.findUser,
			"update key": m.updateKey, "create keys": m.createKeys, "delete keys": m.deleteKeys, "search keys": m.searchKeys,
			"create key": m.createKey, "delete key": m.deleteKey, "find key": m.findKey, "touch keys": m.touchKeys,
			"create session": m.createSession, "delete session": m.deleteSession, "expire sessions": m.expireSessions,
			"reopen": func(*rapid.T) { m.reopen(); clear(m.touched) },
			"":       m.compare,
		})
	})
}

// model is what the store should hold.
type model struct {
	*subject
	keys map[apikey.KeyID]*apikey.Key
	// touched are the keys whose time of last use a cache may not know yet.
	touched  map[apikey.KeyID]bool
	users    map[apikey.UserID]*store.User
	sessions map[store.SessionID]*store.Session
	lastKey  apikey.KeyID
	lastUser apikey.UserID
	events   []noted
}

// The few values from which steps choose, so that they meet often.
var (
	drawHash    = rapid.Custom(func(t *rapid.T) apikey.Hash { return hashOf(rapid.Uint64Range(0, 12).Draw(t, "hash")) })
	drawLogin   = rapid.SampledFrom([]string{"ada", "bob", "ada@example.io", "bob@example.io", "eve@example.io"})
	drawEmail   = rapid.SampledFrom([]string{"", "ada@example.io", "bob@example.io", "eve@example.io"})
	drawUserID  = rapid.Custom(func(t *rapid.T) apikey.UserID { return apikey.UserID(rapid.IntRange(0, 5).Draw(t, "user")) })
	drawKeyID   = rapid.Custom(func(t *rapid.T) apikey.KeyID { return apikey.KeyID(rapid.IntRange(0, 20).Draw(t, "key")) })
	drawSeconds = rapid.IntRange(-3, 30)
)

func at(seconds int) time.Time { return day.Add(time.Duration(seconds) * time.Second) }

// agree compares an error with what the model says.
func agree(t *rapid.T, what string, err, want error) {
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

func (m *model) find(login string) *store.User {
	for _, user := range m.users {
		if user.Name == login || user.Email == login {
			return user
		}
	}
	return nil
}

func (m *model) createUser(t *rapid.T) {
	user := &store.User{
		Role: rapid.SampledFrom(store.Roles()).Draw(t, "role"),
		Name: drawLogin.Draw(t, "name"), Email: drawEmail.Draw(t, "email"),
		PasswordHash: rapid.StringMatching(`[a-z$]{0,20}`).Draw(t, "hash"), CreatedAt: at(drawSeconds.Draw(t, "at")),
	}
	var want error
	if m.find(user.Name) != nil || user.Email != "" && m.find(user.Email) != nil {
		want = store.ErrExists
	}
	created, err := m.CreateUser(background(), user, by)
	agree(t, "creating user", err, want)
	if err == nil {
		if created.ID <= m.lastUser {
			t.Fatalf("user id %d after %d", created.ID, m.lastUser)
		}
		m.lastUser = created.ID
		kept := *user
		kept.ID = created.ID
		if len(m.users) == 0 {
			kept.Role = store.RoleOwner
		}
		m.note(store.ActionCreateUser, int64(kept.ID))
		m.users[kept.ID] = &kept
		same(t, "created user", created, &kept)
	}
}

func (m *model) setPassword(t *rapid.T) {
	id, hash := drawUserID.Draw(t, "id"), rapid.StringMatching(`[a-z$]{0,20}`).Draw(t, "hash")
	user, found := m.users[id]
	if !found {
		agree(t, "setting password", m.SetPasswordHash(background(), id, "", hash, nil, by), store.ErrNotFound)
		return
	}
	agree(t, "setting password", m.SetPasswordHash(background(), id, "", hash, nil, by), nil)
	user.PasswordHash = hash
	m.note(store.ActionSetPassword, int64(id))
	maps.DeleteFunc(m.sessions, func(_ store.SessionID, session *store.Session) bool { return session.User == id })
}

func (m *model) findUser(t *rapid.T) {
	login := drawLogin.Draw(t, "login")
	found, err := m.FindUser(background(), login)
	want := m.find(login)
	if want == nil {
		agree(t, "finding user", err, store.ErrNotFound)
		return
	}
	agree(t, "finding user", err, nil)
	same(t, "found user", found, want)
}

func (m *model) createKey(t *rapid.T) {
	key := drawNewKey(t)
	want := m.mayCreate(key)
	created, err := m.CreateKey(background(), key, by)
	agree(t, "creating key", err, want)
	if err == nil {
		m.created(t, key, created)
	}
}

func drawNewKey(t *rapid.T) *apikey.Key {
	key := &apikey.Key{
		Hash: drawHash.Draw(t, "hash"), Name: rapid.StringMatching(`[a-zé]{1,20}`).Draw(t, "name"), Owner: drawUserID.Draw(t, "owner"),
		Strict: rapid.Bool().Draw(t, "strict"), RateLimitPerHour: rapid.Uint32Range(0, apikey.MaxRateLimit).Draw(t, "limit"),
		CreatedAt: at(drawSeconds.Draw(t, "at")),
	}
	for _, text := range rapid.SliceOfN(rapid.SampledFrom([]string{"https://a.example", "*.b.example", "null"}), 0, 3).Draw(t, "origins") {
		origin, err := apikey.ParseOriginPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		key.AllowedOrigins = append(key.AllowedOrigins, origin)
	}
	return key
}

// mayCreate returns what creating a key fails with.
func (m *model) mayCreate(key *apikey.Key) error {
	if m.users[key.Owner] == nil {
		return store.ErrNotFound
	}
	if m.holds(key.Hash) != nil {
		return store.ErrExists
	}
	return nil
}

// holds returns the key that is found by a hash.
func (m *model) holds(hash apikey.Hash) *apikey.Key {
	for _, key := range m.keys {
		if key.Hash == hash || key.PreviousHash == hash {
			return key
		}
	}
	return nil
}

func (m *model) created(t *rapid.T, key, created *apikey.Key) {
	if created.ID <= m.lastKey {
		t.Fatalf("key id %d after %d", created.ID, m.lastKey)
	}
	m.lastKey = created.ID
	kept := key.Clone()
	kept.ID = created.ID
	m.keys[kept.ID] = kept
	m.note(store.ActionCreateKey, int64(kept.ID))
	same(t, "created key", created, kept)
}

func (m *model) deleteKey(t *rapid.T) {
	owner, id := drawUserID.Draw(t, "owner"), drawKeyID.Draw(t, "id")
	key := m.keys[id]
	deleted, err := m.DeleteKey(background(), owner, id, by)
	if key == nil || owner != 0 && key.Owner != owner {
		agree(t, "deleting key", err, store.ErrNotFound)
		return
	}
	agree(t, "deleting key", err, nil)
	same(t, "deleted key", deleted, key)
	m.note(store.ActionDeleteKey, int64(id))
	delete(m.keys, id)
}

func (m *model) findKey(t *rapid.T) {
	hash := drawHash.Draw(t, "hash")
	found, err := m.FindKey(background(), hash)
	if key := m.holds(hash); key != nil {
		agree(t, "finding key", err, nil)
		if m.touched[key.ID] && found.LastUsedAt.Before(key.LastUsedAt) {
			found = found.Clone()
			found.LastUsedAt = key.LastUsedAt
		}
		same(t, "found key", found, key)
		return
	}
	agree(t, "finding key", err, store.ErrNotFound)
}

func (m *model) touchKeys(t *rapid.T) {
	used := map[apikey.KeyID]time.Time{}
	for range rapid.IntRange(0, 4).Draw(t, "count") {
		used[drawKeyID.Draw(t, "id")] = at(drawSeconds.Draw(t, "at"))
	}
	agree(t, "touching keys", m.TouchKeys(background(), used), nil)
	for id, at := range used {
		if at = at.Truncate(time.Second); m.keys[id] != nil && at.After(m.keys[id].LastUsedAt) {
			m.keys[id].LastUsedAt, m.touched[id] = at, true
		}
	}
}

func (m *model) createSession(t *rapid.T) {
	session := &store.Session{
		ID: store.SessionID(drawHash.Draw(t, "id")), User: drawUserID.Draw(t, "user"),
		CreatedAt: at(drawSeconds.Draw(t, "created")), ExpiresAt: at(drawSeconds.Draw(t, "expires")),
	}
	err := m.CreateSession(background(), session, by)
	switch {
	case m.users[session.User] == nil:
		agree(t, "creating session", err, store.ErrNotFound)
	case m.sessions[session.ID] != nil:
		agree(t, "creating session", err, store.ErrExists)
	default:
		agree(t, "creating session", err, nil)
		m.note(store.ActionLogin, 0)
		m.sessions[session.ID] = session
	}
}

func (m *model) deleteSession(t *rapid.T) {
	id := store.SessionID(drawHash.Draw(t, "id"))
	agree(t, "deleting session", m.DeleteSession(background(), id, by), nil)
	if m.sessions[id] != nil {
		m.note(store.ActionLogout, 0)
	}
	delete(m.sessions, id)
}

func (m *model) expireSessions(t *rapid.T) {
	now := at(drawSeconds.Draw(t, "now"))
	before := len(m.sessions)
	maps.DeleteFunc(m.sessions, func(_ store.SessionID, session *store.Session) bool { return session.ExpiresAt.Before(now) })
	n, err := m.DeleteExpiredSessions(background(), now)
	agree(t, "expiring sessions", err, nil)
	same(t, "expired sessions", n, before-len(m.sessions))
}

// compare looks at all that the store holds.
func (m *model) compare(t *rapid.T) {
	users, err := m.ListUsers(background())
	agree(t, "listing users", err, nil)
	same(t, "users", users, ordered(m.users, func(*store.User) bool { return true }))
	for owner := range apikey.UserID(6) {
		keys, err := m.ListKeys(background(), owner)
		agree(t, "listing keys", err, nil)
		same(t, fmt.Sprintf("keys of %d", owner), keys, ordered(m.keys, func(key *apikey.Key) bool { return owner == 0 || key.Owner == owner }))
	}
	var events []noted
	for _, event := range m.subject.events() {
		events = append(events, noted{event.Action, event.TargetID})
	}
	same(t, "events", events, m.events)
	for n := range uint64(13) {
		id := store.SessionID(hashOf(n))
		session, err := m.FindSession(background(), id)
		if m.sessions[id] == nil {
			agree(t, "finding session", err, store.ErrNotFound)
			continue
		}
		agree(t, "finding session", err, nil)
		same(t, "session", session, m.sessions[id])
	}
}

// ordered returns what include admits by ascending id.
func ordered[ID cmp.Ordered, V any](all map[ID]V, include func(V) bool) []V {
	var chosen []V
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if include(all[id]) {
			chosen = append(chosen, all[id])
		}
	}
	return chosen
}
