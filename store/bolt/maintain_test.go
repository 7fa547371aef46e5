package bolt_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var by = store.Actor{Kind: store.ActorOperator, Name: "tester", At: noon}

func hashOf(n int) apikey.Hash { return sha256.Sum256(fmt.Append(nil, n)) }

func openAt(t testing.TB, path string) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(context.Background(), path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes users, keys and sessions, and deletes some.
func fill(t testing.TB, s store.Store) {
	t.Helper()
	ctx := context.Background()
	for u := range 3 {
		user, err := s.CreateUser(ctx, &store.User{
			Name: fmt.Sprintf("user%d", u), Email: fmt.Sprintf("user%d@example.io", u), PasswordHash: "$argon2id$canary", CreatedAt: noon,
		}, by)
		must(t, err)
		for k := range 10 {
			key, err := s.CreateKey(ctx, &apikey.Key{
				Hash: hashOf(u*100 + k), Hint: "tk_…a1B2", Name: fmt.Sprintf("key %d", k), Owner: user.ID, OwnerName: user.Name,
				RateLimitPerHour: uint32(k), CreatedAt: noon,
			}, by)
			must(t, err)
			must(t, s.TouchKeys(ctx, map[apikey.KeyID]time.Time{key.ID: noon.Add(time.Hour)}))
			if k%4 == 2 {
				_, err := s.UpdateKey(ctx, 0, key.ID, func(key *apikey.Key) error {
					key.PreviousHash, key.PreviousHint, key.PreviousUntil = key.Hash, key.Hint, noon.Add(time.Hour)
					key.Hash, key.Notes, key.Disabled = hashOf(9000+u*100+k), "rotated", true
					key.Metadata = apikey.Metadata{{Name: "plan", Value: "gold"}}
					return nil
				}, by)
				must(t, err)
			}
			if k%4 == 3 {
				_, err := s.DeleteKey(ctx, 0, key.ID, by)
				must(t, err)
				must(t, s.TouchKeys(ctx, map[apikey.KeyID]time.Time{key.ID: noon.Add(2 * time.Hour)})) // a late write-behind
			}
		}
		must(t, s.CreateInvitation(ctx, &store.Invitation{
			ID: store.InvitationID(hashOf(u)), Name: fmt.Sprintf("guest%d", u), Role: store.RoleAdmin, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour),
		}, by))
		must(t, s.CreateSession(ctx, &store.Session{ID: store.SessionID(hashOf(u)), User: user.ID, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}, by))
	}
}

type contents struct {
	users       []*store.User
	keys        []*apikey.Key
	sessions    []*store.Session
	invitations []*store.Invitation
	events      []*store.Event
}

func contentsOf(s store.Store) (c contents, err error) {
	ctx := context.Background()
	if c.users, err = s.ListUsers(ctx); err != nil {
		return c, err
	}
	if c.keys, err = s.ListKeys(ctx, 0); err != nil {
		return c, err
	}
	if c.invitations, err = s.ListInvitations(ctx); err != nil {
		return c, err
	}
	if c.events, err = s.ListEvents(ctx, store.EventFilter{Limit: store.MaxEvents}); err != nil {
		return c, err
	}
	for u := range 3 {
		session, err := s.FindSession(ctx, store.SessionID(hashOf(u)))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return c, err
		}
		c.sessions = append(c.sessions, session)
	}
	return c, nil
}

func contentsAt(t testing.TB, s store.Store) contents {
	t.Helper()
	c, err := contentsOf(s)
	must(t, err)
	return c
}

func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	s := openAt(t, path)
	fill(t, s)
	want := contentsAt(t, s)
	var backup bytes.Buffer
	n, err := s.Backup(t.Context(), &backup)
	if err != nil || n != int64(backup.Len()) {
		t.Fatalf("%d bytes of %d, %v", n, backup.Len(), err)
	}
	image := backup.Bytes()
	if err := bolt.Restore(t.Context(), path, bytes.NewReader(image), bolt.Options{LockTimeout: time.Millisecond}); err == nil {
		t.Error("a store that is open was replaced")
	}
	last, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(5000), Name: "later", Owner: want.users[0].ID}, by)
	must(t, err)
	must(t, s.Close())
	if err := bolt.Restore(t.Context(), path, bytes.NewReader(image[:len(image)/2]), bolt.Options{}); err == nil {
		t.Error("a part of a backup was restored")
	}
	s = openAt(t, path)
	if _, err := s.FindKey(t.Context(), last.Hash); err != nil {
		t.Errorf("a restore that failed changed the file: %v", err)
	}
	must(t, s.Close())
	for _, path := range []string{path, filepath.Join(dir, "new.db")} {
		must(t, bolt.Restore(t.Context(), path, bytes.NewReader(image), bolt.Options{}))
		report, err := bolt.Verify(t.Context(), path, bolt.Options{})
		if report.Users != 3 || report.Keys != uint64(len(want.keys)) || report.Sessions != 3 || report.Invitations != 3 || report.Events != uint64(len(want.events)) || report.Bytes == 0 || err != nil {
			t.Errorf("verified %+v, %v", report, err)
		}
		s := openAt(t, path)
		if got := contentsAt(t, s); !reflect.DeepEqual(got, want) {
			t.Error("what was restored is not what was backed up")
		}
		must(t, s.Close())
	}
}

func TestCompactKeepsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	s := openAt(t, path)
	fill(t, s)
	for n := range 300 {
		key, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(10_000 + n), Name: strings.Repeat("x", 100), Owner: 1}, by)
		must(t, err)
		if n > 0 {
			_, err = s.DeleteKey(t.Context(), 0, key.ID, by)
			must(t, err)
		}
	}
	want := contentsAt(t, s)
	if _, _, err := bolt.Compact(t.Context(), path, bolt.Options{LockTimeout: time.Millisecond}); err == nil {
		t.Error("a store that is open was compacted")
	}
	must(t, s.Close())
	before, after, err := bolt.Compact(t.Context(), path, bolt.Options{})
	if err != nil || after > before || after == 0 {
		t.Fatalf("%d bytes became %d, %v", before, after, err)
	}
	s = openAt(t, path)
	if got := contentsAt(t, s); !reflect.DeepEqual(got, want) {
		t.Error("compacting changed the contents")
	}
	key, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(20_000), Name: "new", Owner: 1}, by)
	if err != nil || key.ID != 331 {
		t.Errorf("the next key is %+v, %v; expected id 331", key, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"foreign":   {strings.Repeat("SQLite format 3\x00", 1000), 0o600, "data folder"},
		"too loose": {"", 0o644, "chmod 600"},
	} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(c.content), 0o600))
		must(t, os.Chmod(path, c.mode))
		_, err := bolt.Open(t.Context(), path, bolt.Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want the path and %q", name, err, c.want)
		}
	}
	path := filepath.Join(dir, "keys.db")
	openAt(t, path)
	if _, err := bolt.Open(t.Context(), path, bolt.Options{LockTimeout: time.Millisecond}); err == nil {
		t.Error("a file was opened twice")
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	if _, err := bolt.Open(t.Context(), path, bolt.Options{ReadOnly: true}); err == nil {
		t.Fatal("a file was created")
	}
	s := openAt(t, path)
	fill(t, s)
	want := contentsAt(t, s)
	must(t, s.Close())
	s, err := bolt.Open(t.Context(), path, bolt.Options{ReadOnly: true})
	must(t, err)
	defer s.Close()
	if got := contentsAt(t, s); !reflect.DeepEqual(got, want) {
		t.Error("the contents differ")
	}
	if _, err := s.DeleteKey(t.Context(), 0, want.keys[0].ID, by); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change: %v", err)
	}
}
