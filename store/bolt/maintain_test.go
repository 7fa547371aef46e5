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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

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
		})
		must(t, err)
		for k := range 10 {
			key, err := s.CreateKey(ctx, &apikey.Key{
				Hash: hashOf(u*100 + k), Hint: "tk_…a1B2", Name: fmt.Sprintf("key %d", k), Owner: user.ID, OwnerName: user.Name,
				RateLimitPerHour: uint32(k), CreatedAt: noon,
			})
			must(t, err)
			must(t, s.TouchKeys(ctx, map[apikey.KeyID]time.Time{key.ID: noon.Add(time.Hour)}))
			if k%4 == 3 {
				_, err := s.DeleteKey(ctx, 0, key.ID)
				must(t, err)
				must(t, s.TouchKeys(ctx, map[apikey.KeyID]time.Time{key.ID: noon.Add(2 * time.Hour)})) // a late write-behind
			}
		}
		must(t, s.CreateSession(ctx, &store.Session{ID: store.SessionID(hashOf(u)), User: user.ID, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}))
	}
}

type contents struct {
	users    []*store.User
	keys     []*apikey.Key
	sessions []*store.Session
}

func contentsOf(s store.Store) (c contents, err error) {
	ctx := context.Background()
	if c.users, err = s.ListUsers(ctx); err != nil {
		return c, err
	}
	if c.keys, err = s.ListKeys(ctx, 0); err != nil {
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
	last, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(5000), Name: "later", Owner: want.users[0].ID})
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
		if report.Users != 3 || report.Keys != uint64(len(want.keys)) || report.Sessions != 3 || report.Bytes == 0 || err != nil {
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
		key, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(10_000 + n), Name: strings.Repeat("x", 100), Owner: 1})
		must(t, err)
		if n > 0 {
			_, err = s.DeleteKey(t.Context(), 0, key.ID)
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
	key, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(20_000), Name: "new", Owner: 1})
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
	if _, err := s.DeleteKey(t.Context(), 0, want.keys[0].ID); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a change: %v", err)
	}
}

func TestExportAndImport(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "from.db"))
	fill(t, s)
	last, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(999), Name: "gone", Owner: 1})
	must(t, err)
	_, err = s.DeleteKey(t.Context(), 0, last.ID)
	must(t, err)
	want := contentsAt(t, s)
	for _, passwords := range []bool{true, false} {
		var export bytes.Buffer
		must(t, s.Export(t.Context(), &export, bolt.ExportOptions{PasswordHashes: passwords}))
		if strings.Contains(export.String(), "canary") != passwords {
			t.Errorf("password hashes are exported: %v", !passwords)
		}
		path := filepath.Join(dir, fmt.Sprint("to", passwords))
		to := openAt(t, path)
		end, err := to.Import(t.Context(), bytes.NewReader(export.Bytes()))
		if err != nil || end.Keys != len(want.keys) || end.Users != 3 {
			t.Fatalf("%+v, %v", end, err)
		}
		got := contentsAt(t, to)
		if !passwords {
			for _, user := range got.users {
				if user.PasswordHash != "" {
					t.Error("a password hash was imported")
				}
				user.PasswordHash = want.users[0].PasswordHash
			}
		}
		if !reflect.DeepEqual(got.users, want.users) || !reflect.DeepEqual(got.keys, want.keys) || got.sessions != nil {
			t.Error("what was imported is not what was exported")
		}
		for _, key := range want.keys {
			if found, err := to.FindKey(t.Context(), key.Hash); err != nil || !reflect.DeepEqual(found, key) {
				t.Errorf("key %d: %+v, %v", key.ID, found, err)
			}
		}
		key, err := to.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(998), Name: "new", Owner: 1})
		if err != nil || key.ID <= last.ID {
			t.Errorf("the next key is %+v, %v; ids up to %d were given before", key, err, last.ID)
		}
		must(t, to.Close())
		if _, err := bolt.Verify(t.Context(), path, bolt.Options{}); err != nil {
			t.Error(err)
		}
	}
}

func TestImportIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	from := openAt(t, filepath.Join(dir, "from.db"))
	fill(t, from)
	var export bytes.Buffer
	must(t, from.Export(t.Context(), &export, bolt.ExportOptions{}))
	lines := strings.SplitAfter(export.String(), "\n") // head, 3 users, 24 keys, end

	// 24 of the 30 keys are left. Key 30 is line 28.
	for _, c := range []struct {
		name, old, new, want string
		is                   error
	}{
		{"user's id taken", `"user":{"id":3,`, `"user":{"id":1,`, "line 4: user.id: ", store.ErrExists},
		{"user's name taken", `"username":"user2"`, `"username":"user0"`, "line 4: user.username: ", store.ErrExists},
		{"user's name taken as address", `"username":"user2"`, `"username":"user0@example.io"`, "line 4: user.username: ", store.ErrExists},
		{"user's address taken", `"email":"user2@example.io"`, `"email":"user1@example.io"`, "line 4: user.email: ", store.ErrExists},
		{"key's id taken", `"key":{"id":30,`, `"key":{"id":29,`, "line 28: key.id: ", store.ErrExists},
		{"key's hash taken", hashOf(209).String(), hashOf(208).String(), "line 28: key.hash: ", store.ErrExists},
		{"no owner", `"owner":3,"owner_name":"user2","rate_limit_per_hour":9`, `"owner":4,"owner_name":"user2","rate_limit_per_hour":9`, "line 28: key.owner: ", store.ErrNotFound},
		{"not valid", `"name":"key 9","owner":3`, `"name":"","owner":3`, "line 28: key.name: ", nil},
		{"cut off", lines[len(lines)-2], "", "line 29: ", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
			changed := strings.Replace(export.String(), c.old, c.new, 1)
			if changed == export.String() {
				t.Fatal("nothing was changed")
			}
			_, err := to.Import(t.Context(), strings.NewReader(changed))
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %s…", err, c.want)
			}
			if got := contentsAt(t, to); len(got.users)+len(got.keys) != 0 {
				t.Errorf("%d users and %d keys were imported", len(got.users), len(got.keys))
			}
			user, err := to.CreateUser(t.Context(), &store.User{Name: "first"})
			if err != nil || user.ID != 1 {
				t.Errorf("the first user is %+v, %v", user, err)
			}
		})
	}
	t.Run("the first of several", func(t *testing.T) {
		to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
		changed := slices.Clone(lines)
		changed[20] = strings.Replace(changed[20], `"owner":`, `"owner":1`, 1) // of which there is none
		changed[25], changed[8] = changed[5], changed[6]
		_, err := to.Import(t.Context(), strings.NewReader(strings.Join(changed, "")))
		if err == nil || !strings.Contains(err.Error(), "line 9: key.") {
			t.Errorf("got %v, want line 9", err)
		}
	})
	t.Run("in any order", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "to.db")
		to := openAt(t, path)
		shuffled := slices.Clone(lines)
		slices.Reverse(shuffled[1:4])
		slices.Reverse(shuffled[4:28])
		if _, err := to.Import(t.Context(), strings.NewReader(strings.Join(shuffled, ""))); err != nil {
			t.Fatal(err)
		}
		want, got := contentsAt(t, from), contentsAt(t, to)
		if !reflect.DeepEqual(got.keys, want.keys) {
			t.Error("what was imported is not what was exported")
		}
		must(t, to.Close())
		if _, err := bolt.Verify(t.Context(), path, bolt.Options{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("twice", func(t *testing.T) {
		before := contentsAt(t, from)
		if _, err := from.Import(t.Context(), bytes.NewReader(export.Bytes())); !errors.Is(err, store.ErrExists) {
			t.Errorf("got %v", err)
		}
		if !reflect.DeepEqual(contentsAt(t, from), before) {
			t.Error("a refused import changed the store")
		}
	})
}
