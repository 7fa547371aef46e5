package bolt_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

func TestExportAndImport(t *testing.T) {
	dir := t.TempDir()
	s := openAt(t, filepath.Join(dir, "from.db"))
	fill(t, s)
	last, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(999), Name: "gone", Owner: 1}, by)
	must(t, err)
	_, err = s.DeleteKey(t.Context(), 0, last.ID, by)
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
		end, err := to.Import(t.Context(), bytes.NewReader(export.Bytes()), by)
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
		imported := got.events[0]
		if imported.Action != store.ActionImport || imported.By != by || imported.ID != want.events[0].ID+1 {
			t.Errorf("the event of the import is %+v", imported)
		}
		if passwords && !reflect.DeepEqual(got.invitations, want.invitations) || !passwords && got.invitations != nil {
			t.Errorf("%d invitations were imported", len(got.invitations))
		}
		if !reflect.DeepEqual(got.events[1:], want.events) || !reflect.DeepEqual(got.users, want.users) || !reflect.DeepEqual(got.keys, want.keys) || got.sessions != nil {
			t.Error("what was imported is not what was exported")
		}
		for _, key := range want.keys {
			if found, err := to.FindKey(t.Context(), key.Hash); err != nil || !reflect.DeepEqual(found, key) {
				t.Errorf("key %d: %+v, %v", key.ID, found, err)
			}
		}
		key, err := to.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(998), Name: "new", Owner: 1}, by)
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
		{"cut off", lines[len(lines)-2], "", fmt.Sprintf("line %d: ", len(lines)-1), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := openAt(t, filepath.Join(t.TempDir(), "to.db"))
			changed := strings.Replace(export.String(), c.old, c.new, 1)
			if changed == export.String() {
				t.Fatal("nothing was changed")
			}
			_, err := to.Import(t.Context(), strings.NewReader(changed), by)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %s…", err, c.want)
			}
			if got := contentsAt(t, to); len(got.users)+len(got.keys) != 0 {
				t.Errorf("%d users and %d keys were imported", len(got.users), len(got.keys))
			}
			user, err := to.CreateUser(t.Context(), &store.User{Name: "first"}, by)
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
		_, err := to.Import(t.Context(), strings.NewReader(strings.Join(changed, "")), by)
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
		if _, err := to.Import(t.Context(), strings.NewReader(strings.Join(shuffled, "")), by); err != nil {
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
		if _, err := from.Import(t.Context(), bytes.NewReader(export.Bytes()), by); !errors.Is(err, store.ErrExists) {
			t.Errorf("got %v", err)
		}
		if !reflect.DeepEqual(contentsAt(t, from), before) {
			t.Error("a refused import changed the store")
		}
	})
}
