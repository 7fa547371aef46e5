package boltfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// temporary is where the next file at path is made. What a crash left there is
// overwritten.
func temporary(path string) string { return path + ".new" }

// create makes an empty file: whole under another name first, so that no crash
// leaves a part of one.
func create(ctx context.Context, path string, o Options) error {
	return replaceFile(ctx, path, o, func(temp string) error {
		if _, err := os.Lstat(path); err == nil {
			return errExists // another process was faster
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return build(temp, o, func(b *builder) error {
			return b.step(func(tx *Tx) error { return tx.createBuckets(o.Buckets) })
		})
	})
}

var errExists = errors.New("exists already")

// replaceFile calls write to make a whole file and puts it at path. One
// process does so at a time in a folder.
func replaceFile(ctx context.Context, path string, o Options, write func(temp string) error) (err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("opening the folder: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err := lockFolder(ctx, dir, unix.LOCK_EX, o.LockTimeout); err != nil {
		return fmt.Errorf("the folder: %w", err)
	}
	temp := temporary(path)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return writeError(err)
	}
	if err := write(temp); err != nil {
		if removeErr := os.Remove(temp); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
		if errors.Is(err, errExists) {
			return nil
		}
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(writeError(err), os.Remove(temp))
	}
	if err := SyncFolder(path); err != nil {
		return writeError(err)
	}
	return nil
}

// build makes a new file at temp, which fill fills, and syncs it.
func build(temp string, o Options, fill func(b *builder) error) (err error) {
	file, err := o.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return writeError(err)
	}
	db, err := openMap(temp, file, o)
	if err != nil {
		return writeError(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b := &builder{db: db, state: &state{kind: o.Kind, version: o.Version}, seeds: map[string]uint32{}}
	if err := fill(b); err != nil {
		return err
	}
	// The size, too, must survive: a data sync need not keep it.
	if err := file.Sync(); err != nil {
		return writeError(err)
	}
	return nil
}

// builder is a file that is being built.
type builder struct {
	db    *bbolt.DB
	state *state
	seeds map[string]uint32
}

// step makes one transaction.
func (b *builder) step(fn func(tx *Tx) error) (err error) {
	btx, err := b.db.Begin(true)
	if err != nil {
		return writeError(err)
	}
	tx := &Tx{tx: btx, state: b.state, seeds: b.seeds}
	defer tx.guard(&err)
	if err := fn(tx); err != nil {
		return errors.Join(err, btx.Rollback())
	}
	if err := tx.writeState(); err != nil {
		return errors.Join(err, btx.Rollback())
	}
	if err := btx.Commit(); err != nil {
		return writeError(err)
	}
	return nil
}
