package boltfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Records keep their size and keys, so that an old page fits where a newer one
// belongs: its structure and every checksum in it are right. Each page of each
// old version, and each old version under the present meta pages, is refused
// all the same, or changes nothing.
func TestOldPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	o := Options{Kind: "old", Version: 1, Buckets: []string{"a"}}
	write := func(n int) {
		t.Helper()
		f, err := Open(t.Context(), path, o)
		if err != nil {
			t.Fatal(err)
		}
		err = f.Update(t.Context(), func(tx *Tx) error {
			for i := range 120 {
				if i%10 != n%10 && n > 0 {
					continue
				}
				if err := tx.Put("a", fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "%0100d", n)); err != nil {
					return err
				}
			}
			return nil
		})
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	var versions []crafted
	for n := range 24 {
		write(n)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, b)
	}
	last := versions[len(versions)-1]
	refused, unharmed := 0, 0
	try := func(b crafted, what string) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(context.Background(), path, o)
		if errors.Is(err, ErrDamaged) {
			refused++
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		unharmed++
		err = f.View(t.Context(), func(tx *Tx) error {
			for i := range 120 {
				newest := 23
				for newest%10 != i%10 {
					newest--
				}
				value, err := tx.Get("a", fmt.Appendf(nil, "key %d", i))
				if err != nil || string(value) != fmt.Sprintf("%0100d", newest) {
					return fmt.Errorf("record %d is %q: %w", i, value, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s was trusted: %v", what, err)
		}
	}
	pages := last.meta(t).pages
	for v, old := range versions[:len(versions)-3] {
		for id := range min(pages, old.meta(t).pages) {
			b := slices.Clone(last)
			if string(b.page(id)[:pageSize]) == string(old.page(id)[:pageSize]) {
				continue
			}
			copy(b.page(id)[:pageSize], old.page(id))
			try(b, fmt.Sprintf("page %d of version %d", id, v))
		}
		b := slices.Clone(last)
		copy(b[2*pageSize:], old[2*pageSize:])
		try(b, fmt.Sprintf("version %d under newer meta pages", v))
	}
	t.Logf("%d refused, %d unharmed", refused, unharmed)
	if refused < 100 || unharmed < 20 {
		t.Fatal("the test tries too little")
	}
}
