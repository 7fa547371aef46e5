package boltfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// whole makes a file with one record and returns its path.
func whole(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	f := openAt(t, path)
	put(t, f, "a", "key", "value")
	must(t, f.Close())
	return path
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, path string) boltfile.Options
		want    error
		says    string
	}{
		{"a file that others may read", func(t *testing.T, path string) boltfile.Options {
			must(t, os.Chmod(path, 0o640)) //nolint:gosec // what is refused
			return options
		}, boltfile.ErrPermissions, "chmod 600"},
		{"a symbolic link", func(t *testing.T, path string) boltfile.Options {
			must(t, os.Rename(path, path+".real"))
			must(t, os.Symlink(path+".real", path))
			return options
		}, boltfile.ErrPermissions, "not a plain file"},
		{"a folder", func(t *testing.T, path string) boltfile.Options {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
			return options
		}, boltfile.ErrPermissions, "not a plain file"},
		{"an empty file", func(t *testing.T, path string) boltfile.Options {
			must(t, os.Truncate(path, 0))
			return options
		}, boltfile.ErrDamaged, "empty"},
		{"a text", func(t *testing.T, path string) boltfile.Options {
			must(t, os.WriteFile(path, []byte(strings.Repeat("text\n", 5000)), 0o600))
			return options
		}, boltfile.ErrForeign, "another data folder"},
		{"a file of another program", func(t *testing.T, path string) boltfile.Options {
			must(t, os.Remove(path))
			db, err := bbolt.Open(path, 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("a")); return err }))
			must(t, db.Close())
			return options
		}, boltfile.ErrForeign, "another data folder"},
		{"another kind", func(*testing.T, string) boltfile.Options {
			return boltfile.Options{Kind: "other", Version: 3}
		}, boltfile.ErrForeign, `"test file", expected "other"`},
		{"a bucket that is missing", func(*testing.T, string) boltfile.Options {
			return boltfile.Options{Kind: "test file", Version: 3, Buckets: []string{"a", "c"}}
		}, boltfile.ErrForeign, `"c"`},
		{"a newer file", func(*testing.T, string) boltfile.Options {
			return boltfile.Options{Kind: "test file", Version: 2}
		}, boltfile.ErrNewer, "version 3, expected at most 2"},
		{"an older file", func(*testing.T, string) boltfile.Options {
			return boltfile.Options{Kind: "test file", Version: 4}
		}, boltfile.ErrOlder, "version 3, expected 4"},
		{"a bucket of a reserved name", func(*testing.T, string) boltfile.Options {
			return boltfile.Options{Kind: "test file", Buckets: []string{"boltfile"}}
		}, nil, "Buckets"},
		{"no kind", func(*testing.T, string) boltfile.Options { return boltfile.Options{} }, nil, "Kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := whole(t)
			o := c.prepare(t, path)
			before, _ := os.ReadFile(path)
			f, err := boltfile.Open(t.Context(), path, o)
			if err == nil {
				must(t, f.Close())
				t.Fatal("it was opened")
			}
			if c.want != nil && (!errors.Is(err, c.want) || !strings.Contains(err.Error(), path)) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, expected %v and %q", err, c.want, c.says)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Fatal("the file was changed")
			}
		})
	}
}

func TestFileInUse(t *testing.T) {
	path := whole(t)
	f := openAt(t, path)
	o := options
	o.LockTimeout = 1
	if _, err := boltfile.Open(t.Context(), path, o); !errors.Is(err, boltfile.ErrLocked) {
		t.Errorf("opening: %v", err)
	}
	if _, err := boltfile.Verify(t.Context(), path, o); !errors.Is(err, boltfile.ErrLocked) {
		t.Errorf("verifying: %v", err)
	}
	if _, _, err := boltfile.Compact(t.Context(), path, o); !errors.Is(err, boltfile.ErrLocked) {
		t.Errorf("compacting: %v", err)
	}
	if err := boltfile.Restore(t.Context(), path, strings.NewReader("x"), o); !errors.Is(err, boltfile.ErrLocked) {
		t.Errorf("restoring: %v", err)
	}
	must(t, f.Close())
	must(t, f.Close())
	for what, err := range map[string]error{
		"View":   f.View(t.Context(), func(*boltfile.Tx) error { return nil }),
		"Update": f.Update(t.Context(), func(*boltfile.Tx) error { return nil }),
		"Backup": func() error { _, err := f.Backup(t.Context(), &bytes.Buffer{}); return err }(),
	} {
		if !errors.Is(err, boltfile.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	o.ReadOnly = true
	first, err := boltfile.Open(t.Context(), path, o)
	must(t, err)
	second, err := boltfile.Open(t.Context(), path, o)
	must(t, err)
	if got := dump(t, second); got["a/key"] != "value" {
		t.Errorf("read-only: %v", got)
	}
	if err := tryPut(first, "key", "changed"); !errors.Is(err, boltfile.ErrUnavailable) {
		t.Errorf("changing a file that is read-only: %v", err)
	}
	must(t, errors.Join(first.Close(), second.Close()))
}

func TestMigrate(t *testing.T) {
	path := whole(t)
	o := boltfile.Options{Kind: "test file", Version: 5, Buckets: []string{"a", "b", "new"}}
	o.Migrate = func(*boltfile.Tx, uint32) error { return errOnPurpose }
	if _, err := boltfile.Open(t.Context(), path, o); !errors.Is(err, errOnPurpose) {
		t.Fatalf("got %v", err)
	}
	must(t, openAt(t, path).Close()) // it is as it was
	o.Migrate = func(tx *boltfile.Tx, from uint32) error {
		value, err := tx.Get("a", []byte("key"))
		if err != nil || from != 3 {
			return fmt.Errorf("from version %d: %w", from, err)
		}
		return tx.Put("new", []byte("key"), append(bytes.Clone(value), '!'))
	}
	for range 2 { // the second time there is nothing to do
		f, err := boltfile.Open(t.Context(), path, o)
		must(t, err)
		must(t, f.View(t.Context(), func(tx *boltfile.Tx) error {
			if value, err := tx.Get("new", []byte("key")); err != nil || string(value) != "value!" {
				return fmt.Errorf("%q: %w", value, err)
			}
			return nil
		}))
		must(t, f.Close())
	}
}

// Whatever is wrong with a backup, the file that is there stays as it is.
func TestRestoreRefuses(t *testing.T) {
	path := whole(t)
	f := openAt(t, path)
	var backup bytes.Buffer
	_, err := f.Backup(t.Context(), &backup)
	must(t, err)
	put(t, f, "a", "key", "later")
	must(t, f.Close())
	whole := backup.Bytes()
	flipped := bytes.Clone(whole)
	flipped[bytes.Index(flipped, []byte("value"))]++
	for name, c := range map[string]struct {
		backup []byte
		want   error
	}{
		"cut off": {whole[:len(whole)-1], boltfile.ErrDamaged}, "cut off early": {whole[:5000], boltfile.ErrDamaged},
		"empty": {nil, boltfile.ErrDamaged}, "a flipped bit": {flipped, boltfile.ErrDamaged}, "a text": {[]byte("some text"), boltfile.ErrForeign},
	} {
		if err := boltfile.Restore(t.Context(), path, bytes.NewReader(c.backup), options); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, expected %v", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := boltfile.Restore(ctx, path, bytes.NewReader(whole), options); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is done: %v", err)
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// What a crash leaves is in nobody's way.
	must(t, os.WriteFile(path+".new", []byte("left"), 0o600))
	g := openAt(t, path)
	if got := dump(t, g)["a/key"]; got != "later" {
		t.Errorf("the file was changed: %q", got)
	}
	must(t, g.Close())
	// A damaged file is what restoring is for.
	must(t, os.WriteFile(path, flipped, 0o600))
	must(t, boltfile.Restore(t.Context(), path, bytes.NewReader(whole), options))
	if got := dump(t, openAt(t, path))["a/key"]; got != "value" {
		t.Errorf("restored: %q", got)
	}
}

func TestBadArguments(t *testing.T) {
	f := openAt(t, filepath.Join(t.TempDir(), "file"))
	for name, c := range map[string]struct {
		fn   func(tx *boltfile.Tx) error
		says string
	}{
		"no key":         {func(tx *boltfile.Tx) error { return tx.Put("a", nil, nil) }, "key of 0 bytes"},
		"a long key":     {func(tx *boltfile.Tx) error { return tx.Put("a", make([]byte, boltfile.MaxKey+1), nil) }, "expected 1 to 4096"},
		"a long value":   {func(tx *boltfile.Tx) error { return tx.Put("a", []byte("k"), make([]byte, boltfile.MaxValue+1)) }, "value of"},
		"no such bucket": {func(tx *boltfile.Tx) error { return tx.Put("c", []byte("k"), nil) }, `bucket "c"`},
		"the state":      {func(tx *boltfile.Tx) error { return tx.Put("boltfile", []byte("state"), nil) }, `bucket "boltfile"`},
	} {
		if err := f.Update(t.Context(), c.fn); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, expected %q", name, err, c.says)
		}
	}
	for name, fn := range map[string]func(tx *boltfile.Tx) error{
		"Put":          func(tx *boltfile.Tx) error { return tx.Put("a", []byte("k"), nil) },
		"Delete":       func(tx *boltfile.Tx) error { return tx.Delete("a", []byte("k")) },
		"NextSequence": func(tx *boltfile.Tx) error { _, err := tx.NextSequence("a"); return err },
	} {
		if err := f.View(t.Context(), fn); err == nil || !strings.Contains(err.Error(), "expected Update") {
			t.Errorf("%s in View: %v", name, err)
		}
	}
	// A panic is the caller's, and takes back what was done before it.
	func() {
		defer func() {
			if reason := recover(); reason != "on purpose" {
				t.Errorf("recovered %v", reason)
			}
		}()
		_ = f.Update(t.Context(), func(tx *boltfile.Tx) error {
			must(t, tx.Put("a", []byte("k"), nil))
			panic("on purpose")
		})
	}()
	if got := dump(t, f); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}
