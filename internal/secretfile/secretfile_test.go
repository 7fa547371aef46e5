package secretfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/internal/secretfile"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
		err        error
	}{
		{name: "as an editor leaves it", text: "swordfish\n", mode: 0o600, want: "swordfish"},
		{name: "spaces belong to it", text: " sword fish \r\n\n", mode: 0o400, want: " sword fish "},
		{name: "its group may read", text: "swordfish", mode: 0o440, want: "swordfish"},
		{name: "the longest", text: strings.Repeat("x", secretfile.MaxLength), mode: 0o600, want: strings.Repeat("x", secretfile.MaxLength)},
		{name: "too long", text: strings.Repeat("swordfish", secretfile.MaxLength), mode: 0o600, err: secretfile.ErrTooLong},
		{name: "empty", text: "\n", mode: 0o600, err: secretfile.ErrEmpty},
		{name: "everybody may read", text: "swordfish", mode: 0o604, err: secretfile.ErrPermissions},
		{name: "its group may write", text: "swordfish", mode: 0o620, err: secretfile.ErrPermissions},
		{name: "everybody may write", text: "swordfish", mode: 0o602, err: secretfile.ErrPermissions},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			link := path + ".link"
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{path, link} {
				got, err := secretfile.Read(path)
				if string(got) != c.want || !errors.Is(err, c.err) {
					t.Errorf("%q, %v; expected %q, %v", got, err, c.want, c.err)
				}
				if err != nil && (!strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "swordfish")) {
					t.Errorf("the error must name the file and not repeat the secret: %v", err)
				}
			}
		})
	}
	if _, err := secretfile.Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := secretfile.Read(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
}
