package bolt_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

// first returns a store that version 1 wrote.
func first(t testing.TB) []byte {
	t.Helper()
	file, err := os.Open("testdata/version1.db.gz")
	must(t, err)
	defer file.Close()
	z, err := gzip.NewReader(file)
	must(t, err)
	image, err := io.ReadAll(z)
	must(t, err)
	return image
}

func firstContents(t testing.TB) contents {
	t.Helper()
	origin, err := apikey.ParseOriginPattern("https://app.example.io")
	must(t, err)
	c := contents{
		users: []*store.User{
			{ID: 1, Name: "ada", Email: "ada@example.io", PasswordHash: "$argon2id$canary", CreatedAt: noon},
			{ID: 2, Name: "bob", Email: "bob@example.io", PasswordHash: "$argon2id$canary", CreatedAt: noon},
		},
		sessions: []*store.Session{{ID: store.SessionID(hashOf(0)), User: 1, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}},
	}
	for n := range 4 {
		c.keys = append(c.keys, &apikey.Key{
			ID: apikey.KeyID(n + 1), Hash: hashOf(n), Hint: "tk_…a1B2", Name: "key " + string(rune('a'+n)),
			Owner: apikey.UserID(1 + n%2), OwnerName: []string{"ada", "bob"}[n%2], CreatedAt: noon,
		})
	}
	full := c.keys[1]
	full.AllowedOrigins, full.Strict, full.RateLimitPerHour = []apikey.OriginPattern{origin}, true, 5000
	full.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	c.keys[2].LastUsedAt = noon.Add(time.Hour)
	return c
}

// A store of version 1 is read as it is where it is only read, and is brought
// up where it is opened for changes.
func TestOldStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	image, want := first(t), firstContents(t)
	must(t, os.WriteFile(path, image, 0o600))
	if report, err := bolt.Verify(t.Context(), path, bolt.Options{}); err != nil || report.Keys != 4 || report.Users != 2 || report.Sessions != 1 || report.Events != 0 {
		t.Errorf("verified %+v, %v", report, err)
	}
	s, err := bolt.Open(t.Context(), path, bolt.Options{ReadOnly: true})
	must(t, err)
	if got := contentsAt(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("read-only: got %+v, want %+v", got, want)
	}
	if _, err := s.FindInvitation(t.Context(), store.InvitationID{1}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an invitation: %v", err)
	}
	var export bytes.Buffer
	must(t, s.Export(t.Context(), &export, bolt.ExportOptions{PasswordHashes: true}))
	must(t, s.Close())
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, image) {
		t.Error("reading changed the file")
	}

	s = openAt(t, path)
	if got := contentsAt(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("brought up: got %+v, want %+v", got, want)
	}
	_, err = s.UpdateKey(t.Context(), 0, 2, func(key *apikey.Key) error {
		key.Disabled = true
		return nil
	}, by)
	must(t, err)
	next, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(50), Name: "new", Owner: 1}, by)
	if err != nil || next.ID != 6 {
		t.Errorf("the next key is %+v, %v, want id 6", next, err)
	}
	if events, err := s.ListEvents(t.Context(), store.EventFilter{}); err != nil || len(events) != 2 {
		t.Errorf("%d events, %v", len(events), err)
	}
	must(t, s.Close())
	if _, err := bolt.Verify(t.Context(), path, bolt.Options{}); err != nil {
		t.Error(err)
	}
	for _, c := range []func(path string) error{
		func(path string) error {
			return bolt.Restore(t.Context(), path, bytes.NewReader(image), bolt.Options{})
		},
		func(path string) error {
			_, _, err := bolt.Compact(t.Context(), path, bolt.Options{})
			return err
		},
	} {
		must(t, c(path))
		s := openAt(t, path)
		if got := contentsAt(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("restored or compacted: got %+v, want %+v", got, want)
		}
		must(t, s.Close())
	}
}

// An export of version 1 is imported as it was.
func TestOldExport(t *testing.T) {
	export, err := os.ReadFile("testdata/version1.jsonl")
	must(t, err)
	s := openAt(t, filepath.Join(t.TempDir(), "keys.db"))
	end, err := s.Import(t.Context(), bytes.NewReader(export), by)
	if err != nil || end.Keys != 4 || end.LastKeyID != 5 {
		t.Fatalf("%+v, %v", end, err)
	}
	got, want := contentsAt(t, s), firstContents(t)
	if !reflect.DeepEqual(got.users, want.users) || !reflect.DeepEqual(got.keys, want.keys) || len(got.events) != 1 {
		t.Errorf("imported %+v, want %+v", got, want)
	}
}
