package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

const (
	firstPepper  = "canary-pepper-6f0c2a9be41d7358c0ffee"
	secondPepper = "canary-pepper-b17e55f00dfa9c3426d180"
)

func pepperFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peppers")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// notServed starts the program, which is to end by itself, and returns what it
// says.
func notServed(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var errs bytes.Buffer
	err := run(ctx, append([]string{"serve", "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, args...), strings.NewReader(""), &errs, &errs)
	if err == nil || ctx.Err() != nil {
		t.Fatalf("it was started: %s", errs.String())
	}
	if text := err.Error() + errs.String(); strings.Contains(text, "canary-pepper") {
		t.Fatalf("a pepper was printed: %s", text)
	}
	return err.Error()
}

// Keys answer with the pepper they were made with, across a change of peppers,
// and the service refuses to start where it would deny keys for want of one.
func TestPepper(t *testing.T) {
	data := t.TempDir()
	answers := func(want bool, key string, s *server) {
		t.Helper()
		if e, _ := ask(t, s, key); e.Allowed != want {
			t.Errorf("got %+v, expected %v", e, want)
		}
	}
	s := startServer(t, data)
	command(t, testPassword+"\n", "user", "add", "alice", "--data", data)
	plain := createKeyOffline(t, data, "plain", "--owner", "alice", "--strict").Key
	answers(true, plain, s)
	s.stop(t)

	one := pepperFile(t, firstPepper)
	if text := notServed(t, "--data", data, "--key-pepper-file", one); !strings.Contains(text, "key_pepper_file: "+one+": expected") || !strings.Contains(text, "1 made without a pepper, the first of them key 1") {
		t.Errorf("a pepper over plain keys: %s", text)
	}
	s = startServer(t, data, "--key-pepper-file", pepperFile(t, firstPepper, "none"))
	first := createKeyOffline(t, data, "first", "--owner", "alice", "--strict").Key
	answers(true, plain, s)
	answers(true, first, s)
	command(t, "", "key", "delete", "1", "--data", data)
	answers(false, plain, s)
	s.stop(t)

	if text := notServed(t, "--data", data); !strings.Contains(text, "key_pepper_file: expected the file") || !strings.Contains(text, "1 made with a pepper that is not given, the first of them key 2") {
		t.Errorf("no pepper: %s", text)
	}
	if text := notServed(t, "--data", data, "--key-pepper-file", pepperFile(t, secondPepper)); !strings.Contains(text, "1 made with a pepper that is not given") {
		t.Errorf("another pepper: %s", text)
	}
	s = startServer(t, data, "--key-pepper-file", pepperFile(t, secondPepper, firstPepper))
	answers(true, first, s)
	var rotated admin.CreatedKey
	if err := json.Unmarshal([]byte(command(t, "", "key", "rotate", "2", "--grace", "0s", "--json", "--data", data)), &rotated); err != nil {
		t.Fatal(err)
	}
	answers(false, first, s)
	answers(true, rotated.Key, s)
	s.stop(t)

	s = startServer(t, data, "--key-pepper-file", pepperFile(t, secondPepper)) // nothing is left of the first
	answers(true, rotated.Key, s)
	s.stop(t)
}

// A pepper that was lost is missed by the newest keys, however many were made
// before there was one.
func TestPepperOfNewestKeys(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, data)
	command(t, testPassword+"\n", "user", "add", "alice", "--data", data)
	s.stop(t)
	keys, err := bolt.Open(t.Context(), filepath.Join(data, "keys.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for first := 0; first < keysChecked; first += store.MaxBatch {
		var batch []*apikey.Key
		for i := range store.MaxBatch {
			var hash apikey.Hash
			copy(hash[:], strconv.Itoa(first+i+1))
			batch = append(batch, &apikey.Key{Hash: hash, Name: "plain", Owner: 1})
		}
		if _, err := keys.CreateKeys(t.Context(), batch, store.Actor{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
	s = startServer(t, data, "--key-pepper-file", pepperFile(t, firstPepper, "none"))
	key := createKeyOffline(t, data, "peppered", "--owner", "alice")
	gone := createKeyOffline(t, data, "deleted", "--owner", "alice")
	command(t, "", "key", "delete", strconv.FormatInt(int64(gone.ID), 10), "--data", data)
	s.stop(t)
	want := fmt.Sprintf("1 made with a pepper that is not given, the first of them key %d", key.ID)
	if text := notServed(t, "--data", data); !strings.Contains(text, want) {
		t.Errorf("the pepper is lost: %s", text)
	}
}

func TestPepperFileRefused(t *testing.T) {
	loose := pepperFile(t, firstPepper)
	if err := os.Chmod(loose, 0o644); err != nil { //nolint:gosec // this is what is refused
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"missing":            {filepath.Join(t.TempDir(), "none"), "no such file"},
		"everybody may read": {loose, "chmod 600"},
		"short":              {pepperFile(t, firstPepper, firstPepper[:20]), "line 2: expected a pepper of at least 32 bytes, or none, got 20 bytes"},
		"empty":              {pepperFile(t), "expected a secret"},
	} {
		text := notServed(t, "--data", t.TempDir(), "--key-pepper-file", c.path)
		if !strings.HasPrefix(text, "key_pepper_file: "+c.path) || !strings.Contains(text, c.want) {
			t.Errorf("%s: %s", name, text)
		}
	}
}
