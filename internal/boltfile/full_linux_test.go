package boltfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
	"golang.org/x/sys/unix"
)

// A real disk that is really full: changes are refused as such, reads and
// deletions of other files go on, and changes succeed once there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("boltfile", dir, "tmpfs", 0, "size=3m,mode=0700"); err != nil {
		if os.Getenv("TOKENKIT_REQUIRE_FUSE") != "" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED, and TOKENKIT_REQUIRE_FUSE would make this a failure: mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path, ballast := filepath.Join(dir, "file"), filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600))
	f, err := boltfile.Open(t.Context(), path, options)
	must(t, err)
	want := map[string]string{}
	value := string(make([]byte, 30_000))
	fill := func(round string) {
		t.Helper()
		for i := range 1000 {
			key := fmt.Sprintf("%s %04d", round, i)
			err := tryPut(f, key, value)
			if errors.Is(err, boltfile.ErrFull) {
				break
			}
			must(t, err)
			want["a/"+key] = value
			if i == 999 {
				t.Fatal("the disk is never full")
			}
		}
		for range 5 { // and stays so
			if err := tryPut(f, "more", value+value+value); !errors.Is(err, boltfile.ErrFull) {
				t.Fatalf("on a full disk: %v", err)
			}
			if err := same(dump(t, f), want); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill("before")
	if err := boltfile.Restore(context.Background(), filepath.Join(dir, "other"), neverEnding{}, options); !errors.Is(err, boltfile.ErrFull) {
		t.Errorf("restoring: %v", err)
	}
	must(t, os.Remove(ballast))
	fill("after")
	must(t, f.Close())
	f, err = boltfile.Open(t.Context(), path, options)
	must(t, err)
	if err := same(dump(t, f), want); err != nil {
		t.Error(err)
	}
	must(t, f.Close())
}

type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) { return len(b), nil }
