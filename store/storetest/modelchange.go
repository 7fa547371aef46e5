package storetest

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"pgregory.net/rapid"
)

// noted is what the model knows of an event.
type noted struct {
	action store.Action
	target int64
}

func (m *model) note(action store.Action, target int64) {
	m.events = append(m.events, noted{action, target})
}

var errRefused = errors.New("refused by the change")

// updateKey changes one thing of a key, several, or nothing.
func (m *model) updateKey(t *rapid.T) {
	owner, id := drawUserID.Draw(t, "owner"), drawKeyID.Draw(t, "id")
	kind := rapid.SampledFrom([]string{"pause", "rename", "rotate", "rotate at once", "end the previous", "refuse"}).Draw(t, "change")
	paused, name, hash := rapid.Bool().Draw(t, "paused"), rapid.StringMatching(`[a-zé]{1,20}`).Draw(t, "name"), drawHash.Draw(t, "hash")
	change := func(key *apikey.Key) error {
		switch kind {
		case "pause":
			key.Disabled = paused
		case "rename":
			key.Name, key.Notes = name, name
		case "rotate":
			if hash == key.Hash {
				return errRefused
			}
			key.PreviousHash, key.PreviousHint, key.PreviousUntil = key.Hash, key.Hint, day.Add(time.Hour)
			key.Hash = hash
		case "rotate at once":
			key.Hash = hash
			key.PreviousHash, key.PreviousHint, key.PreviousUntil = apikey.Hash{}, "", time.Time{}
		case "end the previous":
			key.PreviousHash, key.PreviousHint, key.PreviousUntil = apikey.Hash{}, "", time.Time{}
		case "refuse":
			key.Name = name
			return errRefused
		}
		return nil
	}
	updated, err := m.UpdateKey(background(), owner, id, change, by)
	key := m.keys[id]
	if key == nil || owner != 0 && key.Owner != owner {
		agree(t, "updating key", err, store.ErrNotFound)
		return
	}
	after := key.Clone()
	if refused := change(after); refused != nil {
		agree(t, "updating key", err, refused)
		return
	}
	if other := m.holds(after.Hash); other != nil && other.ID != id {
		agree(t, "updating key", err, store.ErrExists)
		return
	}
	agree(t, "updating key", err, nil)
	if !slices.Equal([]any{after.Disabled, after.Name, after.Notes, after.Hash, after.PreviousHash, after.PreviousUntil},
		[]any{key.Disabled, key.Name, key.Notes, key.Hash, key.PreviousHash, key.PreviousUntil}) {
		after.UpdatedAt = day
		action := store.ActionUpdateKey
		if after.Hash != key.Hash {
			action = store.ActionRotateKey
		}
		m.note(action, int64(id))
	}
	same(t, "updated key", updated, after)
	m.keys[id] = after
}

func (m *model) createKeys(t *rapid.T) {
	keys := make([]*apikey.Key, rapid.IntRange(0, 3).Draw(t, "count"))
	hashes := map[apikey.Hash]bool{}
	var want error
	for i := range keys {
		keys[i] = drawNewKey(t)
		if want == nil {
			want = m.mayCreate(keys[i])
		}
		if want == nil && hashes[keys[i].Hash] {
			want = store.ErrExists
		}
		hashes[keys[i].Hash] = true
	}
	created, err := m.CreateKeys(background(), keys, by)
	agree(t, "creating keys", err, want)
	if err == nil {
		same(t, "how many were created", len(created), len(keys))
		for i := range keys {
			m.created(t, keys[i], created[i])
		}
	}
}

func (m *model) deleteKeys(t *rapid.T) {
	owner := drawUserID.Draw(t, "owner")
	ids := rapid.SliceOfN(drawKeyID, 0, 3).Draw(t, "ids")
	var want error
	var keys []*apikey.Key
	for i, id := range ids {
		key := m.keys[id]
		if key == nil || owner != 0 && key.Owner != owner || slices.Contains(ids[:i], id) {
			want = store.ErrNotFound
		}
		keys = append(keys, key)
	}
	deleted, err := m.DeleteKeys(background(), owner, ids, by)
	agree(t, "deleting keys", err, want)
	if err == nil {
		same(t, "deleted keys", deleted, keys)
		for _, id := range ids {
			m.note(store.ActionDeleteKey, int64(id))
			delete(m.keys, id)
		}
	}
}

func (m *model) updateUser(t *rapid.T) {
	id, email, role := drawUserID.Draw(t, "id"), drawEmail.Draw(t, "email"), rapid.SampledFrom(store.Roles()).Draw(t, "role")
	updated, err := m.UpdateUser(background(), id, func(user *store.User) error {
		user.Email, user.Role = email, role
		return nil
	}, by)
	user := m.users[id]
	other := m.find(email)
	switch {
	case user == nil:
		agree(t, "updating user", err, store.ErrNotFound)
		return
	case user.Role == store.RoleOwner && role != store.RoleOwner && m.owners() == 1:
		agree(t, "updating user", err, store.ErrLastOwner)
		return
	case email != "" && other != nil && other.ID != id:
		agree(t, "updating user", err, store.ErrExists)
		return
	}
	agree(t, "updating user", err, nil)
	if user.Email != email || user.Role != role {
		m.note(store.ActionUpdateUser, int64(id))
	}
	user.Email, user.Role = email, role
	same(t, "updated user", updated, user)
}

func (m *model) owners() int {
	n := 0
	for _, user := range m.users {
		if user.Role == store.RoleOwner {
			n++
		}
	}
	return n
}

func (m *model) deleteUser(t *rapid.T) {
	id := drawUserID.Draw(t, "id")
	deleted, err := m.DeleteUser(background(), id, by)
	user := m.users[id]
	switch {
	case user == nil:
		agree(t, "deleting user", err, store.ErrNotFound)
		return
	case user.Role == store.RoleOwner && m.owners() == 1:
		agree(t, "deleting user", err, store.ErrLastOwner)
		return
	case len(ordered(m.keys, func(key *apikey.Key) bool { return key.Owner == id })) > 0:
		agree(t, "deleting user", err, store.ErrInUse)
		return
	}
	agree(t, "deleting user", err, nil)
	same(t, "deleted user", deleted, user)
	m.note(store.ActionDeleteUser, int64(id))
	delete(m.users, id)
	maps.DeleteFunc(m.sessions, func(_ store.SessionID, session *store.Session) bool { return session.User == id })
}

func (m *model) searchKeys(t *rapid.T) {
	filter := store.KeyFilter{
		Owner: drawUserID.Draw(t, "owner"), Search: rapid.SampledFrom([]string{"", "a", "É", "bc", "#3", "#12", "zz"}).Draw(t, "search"),
		State: rapid.SampledFrom(append(store.KeyStates(), store.AnyState)).Draw(t, "state"),
		After: drawKeyID.Draw(t, "after"), Limit: rapid.IntRange(0, 3).Draw(t, "limit"), Now: at(drawSeconds.Draw(t, "now")),
	}
	page, err := m.SearchKeys(background(), filter)
	agree(t, "searching keys", err, nil)
	same(t, "page", page, naiveSearch(slices.Collect(maps.Values(m.keys)), filter))
}

// naiveSearch does what a [store.KeyFilter] says, word by word.
func naiveSearch(keys []*apikey.Key, filter store.KeyFilter) store.KeyPage {
	keys = slices.DeleteFunc(slices.Clone(keys), func(key *apikey.Key) bool { return !described(key, filter) })
	slices.SortFunc(keys, func(a, b *apikey.Key) int { return cmp.Compare(b.ID, a.ID) })
	page := store.KeyPage{Total: len(keys)}
	if filter.After != 0 {
		keys = slices.DeleteFunc(keys, func(key *apikey.Key) bool { return key.ID >= filter.After })
	}
	if limit := cmp.Or(filter.Limit, store.DefaultPage); len(keys) > limit {
		keys = keys[:limit]
		page.Next = keys[limit-1].ID
	}
	if len(keys) > 0 {
		page.Keys = keys
	}
	return page
}

func described(key *apikey.Key, filter store.KeyFilter) bool {
	if filter.Owner != 0 && key.Owner != filter.Owner {
		return false
	}
	expired := key.Expired(filter.Now)
	var in bool
	switch filter.State {
	case store.AnyState:
		in = true
	case store.StateActive:
		in = !key.Disabled && !expired
	case store.StatePaused:
		in = key.Disabled
	case store.StateExpired:
		in = expired
	case store.StateExpiring:
		in = !expired && !key.ExpiresAt.IsZero() && key.ExpiresAt.Sub(filter.Now) <= 7*24*time.Hour
	case store.StateUnused:
		in = key.LastUsedAt.IsZero()
	case store.StateIdle:
		last := key.CreatedAt
		if key.LastUsedAt.After(last) {
			last = key.LastUsedAt
		}
		in = filter.Now.Sub(last) > 30*24*time.Hour
	}
	texts := []string{key.Name, key.Hint, key.PreviousHint, key.OwnerName, key.Notes}
	for _, entry := range key.Metadata {
		texts = append(texts, entry.Value)
	}
	has := slices.ContainsFunc(texts, func(text string) bool {
		return strings.Contains(strings.ToLower(text), strings.ToLower(filter.Search))
	})
	return in && (has || filter.Search == "#"+decimal(int64(key.ID)))
}
