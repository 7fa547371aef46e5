package store_test

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

const canary = "$argon2id$canary"

// held is what an export holds.
type held struct {
	users       []*store.User
	keys        []*apikey.Key
	invitations []*store.Invitation
	events      []*store.Event
}

// exported returns an export and what it holds.
func exported(t testing.TB, passwords bool) (string, held) {
	t.Helper()
	origin, err := apikey.ParseOriginPattern("https://*.example.io")
	if err != nil {
		t.Fatal(err)
	}
	scope, err := apikey.ParseScope("GET,HEAD /v1/")
	if err != nil {
		t.Fatal(err)
	}
	h := held{
		users: []*store.User{
			{ID: 1, Name: "ada", Email: "ada@example.io", PasswordHash: canary, Role: store.RoleOwner, CreatedAt: noon.Add(time.Microsecond)},
			{ID: 3, Name: "bob@example.io"},
		},
		keys: []*apikey.Key{
			{ID: 2, Hash: hashOf(2), Name: `<"Größe">`, Owner: 3},
			{
				ID: 7, Hash: hashOf(7), Hint: "tk_…a1B2", Name: "full", Owner: 1, OwnerName: "ada", Strict: true, RateLimitPerHour: 5000,
				AllowedOrigins: []apikey.OriginPattern{origin}, Scopes: []apikey.Scope{scope},
				AllowedIPs: []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32"), netip.MustParsePrefix("2001:db8::/32")},
				Notes:      "two\nlines", Metadata: apikey.Metadata{{Name: "plan", Value: "gold"}, {Name: "team", Value: ""}}, Disabled: true,
				PreviousHash: hashOf(6), PreviousHint: "tk_…zZ09", PreviousUntil: noon.Add(3 * time.Hour),
				ExpiresAt: noon.Add(2 * time.Hour), CreatedAt: noon, UpdatedAt: noon.Add(time.Minute), LastUsedAt: noon.Add(time.Hour),
			},
		},
		events: []*store.Event{{
			ID: 5, Action: store.ActionUpdateKey, TargetKind: store.TargetKey, TargetID: 7, TargetName: "full",
			By:      store.Actor{Kind: store.ActorUser, User: 1, Name: "ada", Address: netip.MustParseAddr("2001:db8::1"), At: noon},
			Changes: []store.Change{{Field: "name", From: `"<a>"`, To: `"full"`}, {Field: "notes", To: `""`}},
		}},
	}
	if passwords {
		h.invitations = []*store.Invitation{{
			ID: store.InvitationID(hashOf(8)), Name: "joe", Email: "joe@example.io", Role: store.RoleViewer, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour), InvitedBy: "ada",
		}}
	}
	return rewritten(t, h, passwords, store.LastIDs{User: 4, Key: 9, Event: 6}), h
}

// rewritten returns an export of what was held.
func rewritten(t testing.TB, h held, passwords bool, last store.LastIDs) string {
	t.Helper()
	var out bytes.Buffer
	w := store.NewExportWriter(&out, passwords)
	var err error
	for _, user := range h.users {
		err = errors.Join(err, w.User(user))
	}
	for _, key := range h.keys {
		err = errors.Join(err, w.Key(key))
	}
	for _, invitation := range h.invitations {
		err = errors.Join(err, w.Invitation(invitation))
	}
	for _, event := range h.events {
		err = errors.Join(err, w.Event(event))
	}
	if err := errors.Join(err, w.Close(last)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func read(text string) (h held, end store.ExportEnd, err error) {
	end, err = store.ReadExport(strings.NewReader(text), store.ExportReader{
		User: func(_ int, user *store.User) error { h.users = append(h.users, user); return nil },
		Key:  func(_ int, key *apikey.Key) error { h.keys = append(h.keys, key); return nil },
		Invitation: func(_ int, invitation *store.Invitation) error {
			h.invitations = append(h.invitations, invitation)
			return nil
		},
		Event: func(_ int, event *store.Event) error { h.events = append(h.events, event); return nil },
	})
	return h, end, err
}

func TestExportReadsBack(t *testing.T) {
	for _, passwords := range []bool{true, false} {
		text, want := exported(t, passwords)
		if got := strings.Contains(text, canary); got != passwords {
			t.Errorf("password hashes exported: %v, asked for: %v", got, passwords)
		}
		if !passwords {
			want.users[0].PasswordHash = ""
		}
		got, end, err := read(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("read back as %+v", got)
		}
		wantEnd := store.ExportEnd{Users: 2, Keys: 2, Invitations: len(want.invitations), Events: 1, LastUserID: 4, LastKeyID: 9, LastEventID: 6}
		if end != wantEnd {
			t.Errorf("end %+v, want %+v", end, wantEnd)
		}
		if _, _, err := read(strings.TrimSuffix(text, "\n")); err != nil {
			t.Errorf("without its last line break: %v", err)
		}
	}
}

// A part of an export is never taken for the whole.
func TestExportInPart(t *testing.T) {
	text, _ := exported(t, true)
	for n := range len(text) - 1 { // the last line break may be missing
		if _, _, err := read(text[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read", n, len(text))
		}
	}
	lines := strings.SplitAfter(text, "\n")
	for n := range lines[:len(lines)-1] {
		if _, _, err := read(strings.Join(append(append([]string{}, lines[:n]...), lines[n+1:]...), "")); err == nil {
			t.Errorf("it was read without line %d", n+1)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	text, _ := exported(t, true)
	for _, c := range []struct{ name, old, new, want string }{
		{"another file", `"export":"tokenkit-authz"`, `"export":"other"`, "line 1: export: expected"},
		{"another version", `"version":2`, `"version":3`, "line 1: version: expected 1 to 2, got 3"},
		{"unknown field", `"username":"ada"`, `"username":"ada","admin":true`, `line 2: json: unknown field "admin"`},
		{"number as text", `"user":{"id":1,`, `"user":{"id":"1",`, "line 2: user.id: expected apikey.UserID, got string"},
		{"id zero", `"user":{"id":1,`, `"user":{"id":0,`, "line 2: user.id: expected a positive number"},
		{"user name", `"username":"ada"`, `"username":"Ada"`, "line 2: user.username: expected"},
		{"address", `"email":"ada@`, `"email":"@`, "line 2: user.email: expected"},
		{"time", `"created_at":"2026-03-01T12:00:00.000001Z"`, `"created_at":"yesterday"`, "line 2: user.created_at: expected a time"},
		{"no object", `{"user":{"id":3`, `7{"user":{"id":3`, "line 3: "},
		{"two objects", "\n{\"user\":{\"id\":3", " {}\n{\"user\":{\"id\":3", "line 2: expected one JSON object"},
		{"not UTF-8", "bob", "b\xffb", "line 3: expected valid UTF-8"},
		{"nothing", `{"user":{"id":3,"username":"bob@example.io","role":"member"}}`, "{}", "line 3: expected one of"},
		{"head again", `{"user":{"id":3,"username":"bob@example.io","role":"member"}}`, `{"export":"tokenkit-authz"}`, "line 3: export: expected it on the first line"},
		{"hash", hashOf(2).String(), "abc", "line 4: key.hash: expected 64"},
		{"hash of zeros", hashOf(2).String(), strings.Repeat("0", 64), "line 4: key.hash: expected 64"},
		{"owner", `"owner":3`, `"owner":-3`, "line 4: key.owner: expected"},
		{"key id", `"key":{"id":2`, `"key":{"id":-2`, "line 4: key.id: expected"},
		{"key name", `"name":"full"`, `"name":""`, "line 5: key.name: expected"},
		{"hint", `tk_…a1B2`, `tk_\u0000`, "line 5: key.hint: expected"},
		{"owner's name", `"owner_name":"ada"`, `"owner_name":"a\r\nb"`, "line 5: key.owner_name: expected"},
		{"origin", `"https://*.example.io"`, `"https://*.example.io","x y"`, "line 5: key.allowed_origins[1]: expected"},
		{"address prefix", `"2001:db8::/32"`, `"2001:db8::1/32"`, "line 5: key.allowed_ips[1]: expected"},
		{"limit", `"rate_limit_per_hour":5000`, `"rate_limit_per_hour":-1`, "line 5: key.rate_limit_per_hour: expected uint32"},
		{"limit too high", `"rate_limit_per_hour":5000`, `"rate_limit_per_hour":4000000000`, "line 5: key.rate_limit_per_hour: expected"},
		{"last use", `"last_used_at":"2026`, `"last_used_at":"26`, "line 5: key.last_used_at: expected"},
		{"count", `"keys":2`, `"keys":3`, "line 8: end: expected 3 keys, read 2"},
		{"last ids", `"last_key_id":9`, `"last_key_id":6`, "line 8: end: expected last ids"},
		{"long line", "bob", strings.Repeat("b", 1<<20), "line 3: expected a line of at most"},
		{"more", "\"last_event_id\":6}}\n", "\"last_event_id\":6}}\n{}\n", "line 9: expected nothing after"},
		{"role", `"role":"owner"`, `"role":"king"`, "line 2: user.role: expected one of"},
		{"scope", `"GET,HEAD /v1/"`, `"GET,HEAD v1"`, "line 5: key.scopes[0]: expected"},
		{"metadata", `"plan":"gold"`, `"Plan":"gold"`, "line 5: key.metadata: "},
		{"notes", `two\nlines`, `two\rlines`, "line 5: key.notes: expected"},
		{"previous hash", hashOf(6).String(), "abc", "line 5: key.previous_hash: expected 64"},
		{"previous hash of none", `"previous_hash":"` + hashOf(6).String() + `",`, "", "line 5: key.previous_hash: expected one"},
		{"the same hash twice", hashOf(6).String(), hashOf(7).String(), "line 5: key.previous_hash: expected another"},
		{"end of the previous", `"previous_expires_at":"2026`, `"previous_expires_at":"26`, "line 5: key.previous_expires_at: expected"},
		{"expiry", `"expires_at":"2026-03-01T14:00:00Z","created`, `"expires_at":"never","created`, "line 5: key.expires_at: expected"},
		{"invitation", hashOf(8).String(), "abc", "line 6: invitation.hash: expected 64"},
		{"invited name", `"username":"joe"`, `"username":"Joe"`, "line 6: invitation.username: expected"},
		{"event's id", `"event":{"id":5`, `"event":{"id":0`, "line 7: event.id: expected"},
		{"event's actor", `"kind":"user"`, `"kind":"cat"`, "line 7: event.actor: expected"},
		{"event's address", `"address":"2001:db8::1"`, `"address":"home"`, "line 7: event.actor.address: expected"},
		{"event's time", `"event":{"id":5,"at":"2026-03-01T12:00:00Z",`, `"event":{"id":5,`, "line 7: event.at: expected"},
		{"two parts", `{"user":{"id":3`, `{"end":{},"user":{"id":3`, "line 3: expected one of"},
		{"last event", `"last_event_id":6`, `"last_event_id":4`, "line 8: end: expected last ids"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(text, c.old, c.new, 1)
			if changed == text {
				t.Fatal("nothing was changed")
			}
			_, _, err := read(changed)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s…", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Error("the error shows a password hash")
			}
		})
	}
}

func FuzzReadExport(f *testing.F) {
	text, _ := exported(f, true)
	f.Add(text)
	f.Add(strings.SplitAfter(text, "\n")[0])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		h, end, err := read(text)
		if err != nil {
			return
		}
		again := rewritten(t, h, true, store.LastIDs{User: end.LastUserID, Key: end.LastKeyID, Event: end.LastEventID})
		hAgain, endAgain, err := read(again)
		if err != nil || endAgain != end || !reflect.DeepEqual(hAgain, h) {
			t.Fatalf("written anew it is not the same: %v", err)
		}
	})
}
