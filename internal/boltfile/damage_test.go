package boltfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/internal/boltfile/boltfiletest"
)

// A damaged file is refused, or holds what it held and can be gone on with.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var versions [][]byte
	for n := 1; n <= 40; n++ {
		f := openAt(t, path)
		err := f.Update(t.Context(), func(tx *boltfile.Tx) error {
			for w := range workers {
				if err := apply(tx, w, n); err != nil {
					return err
				}
			}
			for i := range 40 {
				if err := tx.Put("b", fmt.Appendf(nil, "key %d", i), fmt.Append(nil, n)); err != nil {
					return err
				}
			}
			_, err := tx.NextSequence("a")
			return err
		})
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if n%10 == 0 {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, b)
		}
	}
	f := openAt(t, path)
	want := dump(t, f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	boltfiletest.Damage(t, boltfiletest.DamageOptions{
		Versions: versions,
		Rounds:   1000,
		Refusals: []error{boltfile.ErrDamaged, boltfile.ErrForeign},
		Check: func(path string) error {
			if err := checkDamaged(path, want, 41); err != nil {
				return err
			}
			f, err := boltfile.Open(context.Background(), path, options)
			if err != nil {
				return fmt.Errorf("after a change: %s", err.Error()) // no refusal is right here
			}
			return f.Close()
		},
	})
}

func checkDamaged(path string, want map[string]string, next uint64) (err error) {
	f, err := boltfile.Open(context.Background(), path, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	got, err := contents(f)
	if err != nil {
		return err
	}
	if err := same(got, want); err != nil {
		return err
	}
	return f.Update(context.Background(), func(tx *boltfile.Tx) error {
		n, err := tx.NextSequence("a")
		if err == nil && n != next {
			err = fmt.Errorf("sequence %d, expected %d", n, next)
		}
		if err != nil {
			return err
		}
		return apply(tx, 0, 41)
	})
}
