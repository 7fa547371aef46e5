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

// exported returns an export of two users and two keys, and what it holds.
func exported(t testing.TB, passwords bool) (string, []*store.User, []*apikey.Key) {
	t.Helper()
	users := []*store.User{
		{ID: 1, Name: "ada", Email: "ada@example.io", PasswordHash: canary, CreatedAt: noon.Add(time.Microsecond)},
		{ID: 3, Name: "bob@example.io"},
	}
	origin, err := apikey.ParseOriginPattern("https://*.example.io")
	if err != nil {
		t.Fatal(err)
	}
	keys := []*apikey.Key{
		{ID: 2, Hash: hashOf(2), Name: `<"Größe">`, Owner: 3},
		{
			ID: 7, Hash: hashOf(7), Hint: "tk_…a1B2", Name: "full", Owner: 1, OwnerName: "ada", Strict: true, RateLimitPerHour: 5000,
			AllowedOrigins: []apikey.OriginPattern{origin},
			AllowedIPs:     []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32"), netip.MustParsePrefix("2001:db8::/32")},
			CreatedAt:      noon, LastUsedAt: noon.Add(time.Hour),
		},
	}
	var out bytes.Buffer
	w := store.NewExportWriter(&out, passwords)
	for _, user := range users {
		err = errors.Join(err, w.User(user))
	}
	for _, key := range keys {
		err = errors.Join(err, w.Key(key))
	}
	if err := errors.Join(err, w.Close(4, 9)); err != nil {
		t.Fatal(err)
	}
	return out.String(), users, keys
}

func read(text string) (users []*store.User, keys []*apikey.Key, end store.ExportEnd, err error) {
	end, err = store.ReadExport(strings.NewReader(text), store.ExportReader{
		User: func(_ int, user *store.User) error { users = append(users, user); return nil },
		Key:  func(_ int, key *apikey.Key) error { keys = append(keys, key); return nil },
	})
	return users, keys, end, err
}

func TestExportReadsBack(t *testing.T) {
	for _, passwords := range []bool{true, false} {
		text, users, keys := exported(t, passwords)
		if got := strings.Contains(text, canary); got != passwords {
			t.Errorf("password hashes exported: %v, asked for: %v", got, passwords)
		}
		if !passwords {
			users[0].PasswordHash = ""
		}
		gotUsers, gotKeys, end, err := read(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(gotUsers, users) || !reflect.DeepEqual(gotKeys, keys) {
			t.Errorf("read back as %+v, %+v", gotUsers, gotKeys)
		}
		if want := (store.ExportEnd{Users: 2, Keys: 2, LastUserID: 4, LastKeyID: 9}); end != want {
			t.Errorf("end %+v, want %+v", end, want)
		}
		if _, _, _, err := read(strings.TrimSuffix(text, "\n")); err != nil {
			t.Errorf("without its last line break: %v", err)
		}
	}
}

// A part of an export is never taken for the whole.
func TestExportInPart(t *testing.T) {
	text, _, _ := exported(t, true)
	for n := range len(text) - 1 { // the last line break may be missing
		if _, _, _, err := read(text[:n]); err == nil {
			t.Fatalf("%d of %d bytes were read", n, len(text))
		}
	}
	lines := strings.SplitAfter(text, "\n")
	for n := range lines[:len(lines)-1] {
		if _, _, _, err := read(strings.Join(append(append([]string{}, lines[:n]...), lines[n+1:]...), "")); err == nil {
			t.Errorf("it was read without line %d", n+1)
		}
	}
}

func TestExportRefuses(t *testing.T) {
	text, _, _ := exported(t, true)
	for _, c := range []struct{ name, old, new, want string }{
		{"another file", `"export":"tokenkit-authz"`, `"export":"other"`, "line 1: export: expected"},
		{"another version", `"version":1`, `"version":2`, "line 1: version: expected 1, got 2"},
		{"unknown field", `"username":"ada"`, `"username":"ada","admin":true`, `line 2: json: unknown field "admin"`},
		{"number as text", `"user":{"id":1,`, `"user":{"id":"1",`, "line 2: user.id: expected apikey.UserID, got string"},
		{"id zero", `"user":{"id":1,`, `"user":{"id":0,`, "line 2: user.id: expected a positive number"},
		{"user name", `"username":"ada"`, `"username":"Ada"`, "line 2: user.username: expected"},
		{"address", `"email":"ada@`, `"email":"@`, "line 2: user.email: expected"},
		{"time", `"created_at":"2026-03-01T12:00:00.000001Z"`, `"created_at":"yesterday"`, "line 2: user.created_at: expected a time"},
		{"no object", `{"user":{"id":3`, `7{"user":{"id":3`, "line 3: "},
		{"two objects", "\n{\"user\":{\"id\":3", " {}\n{\"user\":{\"id\":3", "line 2: expected one JSON object"},
		{"not UTF-8", "bob", "b\xffb", "line 3: expected valid UTF-8"},
		{"nothing", `{"user":{"id":3,"username":"bob@example.io"}}`, "{}", "line 3: expected one of"},
		{"head again", `{"user":{"id":3,"username":"bob@example.io"}}`, `{"export":"tokenkit-authz"}`, "line 3: export: expected it on the first line"},
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
		{"count", `"keys":2`, `"keys":3`, "line 6: end: expected 2 users and 3 keys, read 2 and 2"},
		{"last ids", `"last_key_id":9`, `"last_key_id":6`, "line 6: end: expected last ids"},
		{"long line", "bob", strings.Repeat("b", 1<<20), "line 3: expected a line of at most"},
		{"more", "\"last_key_id\":9}}\n", "\"last_key_id\":9}}\n{}\n", "line 7: expected nothing after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(text, c.old, c.new, 1)
			if changed == text {
				t.Fatal("nothing was changed")
			}
			_, _, _, err := read(changed)
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
	text, _, _ := exported(f, true)
	f.Add(text)
	f.Add(strings.SplitAfter(text, "\n")[0])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		users, keys, end, err := read(text)
		if err != nil {
			return
		}
		var out bytes.Buffer
		w := store.NewExportWriter(&out, true)
		for _, user := range users {
			err = errors.Join(err, w.User(user))
		}
		for _, key := range keys {
			err = errors.Join(err, w.Key(key))
		}
		if err := errors.Join(err, w.Close(end.LastUserID, end.LastKeyID)); err != nil {
			t.Fatal(err)
		}
		usersAgain, keysAgain, endAgain, err := read(out.String())
		if err != nil || endAgain != end || !reflect.DeepEqual(usersAgain, users) || !reflect.DeepEqual(keysAgain, keys) {
			t.Fatalf("written anew it is not the same: %v", err)
		}
	})
}
