package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// KeyState is a state by which keys are searched for. A key may be in several.
type KeyState string

// The states of keys, at the time of a [KeyFilter].
const (
	AnyState      = KeyState("")
	StateActive   = KeyState("active")     // neither paused nor expired
	StatePaused   = KeyState("paused")     // disabled
	StateExpired  = KeyState("expired")    // has ended by itself
	StateExpiring = KeyState("expiring")   // has not expired, and will within [ExpiringWithin]
	StateUnused   = KeyState("never_used") // has never allowed a call
	StateIdle     = KeyState("unused_30d") // made, and last used if ever, more than [IdleAfter] ago
)

// The spans of [StateExpiring] and [StateIdle].
const (
	ExpiringWithin = 7 * 24 * time.Hour
	IdleAfter      = 30 * 24 * time.Hour
)

// KeyStates lists every state but [AnyState].
func KeyStates() []KeyState {
	return []KeyState{StateActive, StatePaused, StateExpired, StateExpiring, StateUnused, StateIdle}
}

// MaxSearchLength bounds [KeyFilter.Search], in bytes.
const MaxSearchLength = 200

// DefaultPage is how many keys a page has where a [KeyFilter] does not say, and
// MaxPage where it asks for more.
const (
	DefaultPage = 50
	MaxPage     = 1000
)

// KeyFilter describes keys. The zero value describes all.
type KeyFilter struct {
	Owner apikey.UserID // zero: any
	// Search is part of a key's name, hint, notes, owner's name or of a value
	// of its metadata, whatever the case of letters, or "#" and its id.
	// Empty: any.
	Search string
	State  KeyState

	After apikey.KeyID // only those with a smaller id; zero: all
	Limit int          // of a page; zero: [DefaultPage]
	Now   time.Time    // when the keys are in State
}

// KeyPage is a part of the keys that a [KeyFilter] describes.
type KeyPage struct {
	Keys  []*apikey.Key // by descending id
	Total int           // of all pages
	// Next is what After is for the next page. Zero: this is the last.
	Next apikey.KeyID
}

// Validate reports what is wrong with a filter, as an [*apikey.FieldError].
func (f *KeyFilter) Validate() error {
	if len(f.Search) > MaxSearchLength {
		return &apikey.FieldError{Field: "search", Err: fmt.Errorf("expected at most %d bytes, got %d", MaxSearchLength, len(f.Search))}
	}
	if strings.ContainsRune(f.Search, 0) {
		return &apikey.FieldError{Field: "search", Err: errors.New("expected no zero byte")}
	}
	if f.State == AnyState || slices.Contains(KeyStates(), f.State) {
		return nil
	}
	return &apikey.FieldError{Field: "state", Err: fmt.Errorf("expected one of %q", KeyStates())}
}

// Size returns how many keys a page has at most.
func (f *KeyFilter) Size() int {
	if f.Limit <= 0 {
		return DefaultPage
	}
	return min(f.Limit, MaxPage)
}

// Matches reports whether the filter describes key, on whatever page.
func (f *KeyFilter) Matches(key *apikey.Key) bool {
	row := rowOf(key)
	return f.query().matches(&row, []byte(searchText(key)))
}

// SearchEach answers a search by looking at every key, which each hands to its
// argument by ascending id, as [Keys.EachKey] does.
func SearchEach(filter KeyFilter, each func(func(*apikey.Key) error) error) (KeyPage, error) {
	if err := filter.Validate(); err != nil {
		return KeyPage{}, err
	}
	var page KeyPage
	q, size := filter.query(), filter.Size()
	err := each(func(key *apikey.Key) error {
		row := rowOf(key)
		if !q.matches(&row, []byte(searchText(key))) {
			return nil
		}
		page.Total++
		if filter.After == 0 || key.ID < filter.After {
			if page.Keys = append(page.Keys, key); len(page.Keys) > 2*size+1 {
				page.Keys = slices.Clone(page.Keys[len(page.Keys)-size-1:])
			}
		}
		return nil
	})
	if err != nil {
		return KeyPage{}, err
	}
	slices.Reverse(page.Keys)
	if len(page.Keys) > size {
		page.Keys = page.Keys[:size:size]
		page.Next = page.Keys[size-1].ID
	}
	return page, nil
}

// searchRow is what searches look at in a key, but for its text. Times are in
// microseconds since 1970, and noTime where there is none.
type searchRow struct {
	id       apikey.KeyID
	owner    apikey.UserID
	created  int64
	used     int64
	expires  int64
	disabled bool
}

const noTime = -1 << 63

func micros(t time.Time) int64 {
	if t.IsZero() {
		return noTime
	}
	return t.UnixMicro()
}

func rowOf(key *apikey.Key) searchRow {
	return searchRow{
		id: key.ID, owner: key.Owner, disabled: key.Disabled,
		created: micros(key.CreatedAt), used: micros(key.LastUsedAt), expires: micros(key.ExpiresAt),
	}
}

// searchText returns the text of a key in which searches look, in small
// letters. Its parts are kept apart by a byte that none of them holds.
func searchText(key *apikey.Key) string {
	var b strings.Builder
	for _, part := range []string{key.Name, key.Hint, key.PreviousHint, key.OwnerName, key.Notes} {
		if part != "" {
			b.WriteString(part)
			b.WriteByte(0)
		}
	}
	for _, entry := range key.Metadata {
		b.WriteString(entry.Value)
		b.WriteByte(0)
	}
	return strings.ToLower(b.String())
}

// query is a filter, read once for many keys.
type query struct {
	owner apikey.UserID
	text  []byte // in small letters
	id    apikey.KeyID
	state KeyState
	now   int64
}

func (f *KeyFilter) query() *query {
	q := &query{owner: f.Owner, text: []byte(strings.ToLower(f.Search)), state: f.State, now: f.Now.UnixMicro()}
	if digits, found := strings.CutPrefix(f.Search, "#"); found {
		if id, err := strconv.ParseInt(digits, 10, 64); err == nil && strconv.FormatInt(id, 10) == digits {
			q.id = apikey.KeyID(id)
		}
	}
	return q
}

func (q *query) matches(row *searchRow, text []byte) bool {
	if q.owner != 0 && row.owner != q.owner || !q.inState(row) {
		return false
	}
	return len(q.text) == 0 || q.id == row.id && q.id != 0 || bytes.Contains(text, q.text)
}

func (q *query) inState(row *searchRow) bool {
	expired := row.expires != noTime && row.expires <= q.now
	switch q.state {
	case AnyState:
		return true
	case StateActive:
		return !row.disabled && !expired
	case StatePaused:
		return row.disabled
	case StateExpired:
		return expired
	case StateExpiring:
		return row.expires != noTime && !expired && row.expires <= q.now+ExpiringWithin.Microseconds()
	case StateUnused:
		return row.used == noTime
	case StateIdle:
		return max(row.created, row.used) < q.now-IdleAfter.Microseconds()
	}
	return false
}
