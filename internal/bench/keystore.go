//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tokenkithq/authz/apikey"
)

// storeVersion is part of the name of a store that is kept, so that one which
// was made otherwise is not used.
const storeVersion = 3

// hourlyLimit of the keys that have one: more than any run makes calls.
const hourlyLimit = 1_000_000_000

// owner of all keys.
const owner = "bench"

// keyStore is a store of keys of a data folder and the keys themselves.
type keyStore struct {
	store   string
	secrets string
}

// keyStoreOf returns a store of n keys, with limits or without. The program
// imports them once, and they are kept in the user's folder of caches.
func keyStoreOf(ctx context.Context, program string, n int, limited bool) (*keyStore, error) {
	run := func(export io.Reader, args ...string) error {
		step := exec.CommandContext(ctx, program, append([]string{"store"}, args...)...)
		step.Stdin = export
		if out, err := step.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	return keepKeyStore(n, limited, func(dir string, export io.Reader) error {
		return run(export, "import", "-", "--data", dir)
	}, func(dir string) error {
		return run(nil, "compact", "--data", dir)
	})
}

// importer adds the keys of an export to the store of a data folder.
type importer func(dir string, export io.Reader) error

// keepKeyStore makes a store where none is kept yet. Imports in pieces leave
// free pages; compact takes them away.
func keepKeyStore(n int, limited bool, add importer, compact func(dir string) error) (*keyStore, error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		caches = os.TempDir()
	}
	dir := filepath.Join(caches, "tokenkit-authz-bench", fmt.Sprintf("v%d-%d-%t", storeVersion, n, limited))
	k := &keyStore{store: filepath.Join(dir, "keys.db"), secrets: filepath.Join(dir, "secrets")}
	if _, err := os.Stat(dir); err == nil {
		return k, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, err
	}
	making, err := os.MkdirTemp(filepath.Dir(dir), "making-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(making) }()
	if err := makeKeys(making, n, limited, add); err != nil {
		return nil, fmt.Errorf("making %d keys: %w", n, err)
	}
	if err := compact(making); err != nil {
		return nil, fmt.Errorf("compacting %d keys: %w", n, err)
	}
	return k, os.Rename(making, dir)
}

func makeKeys(dir string, n int, limited bool, add importer) (err error) {
	secrets, err := os.OpenFile(filepath.Join(dir, "secrets"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, secrets.Close()) }()
	random := rand.NewChaCha8([32]byte{byte(storeVersion)})
	// One import of all of them would keep all of its pages in memory.
	const batch = 50_000
	for first := 1; first <= n; first += batch {
		last := min(first+batch-1, n)
		read, write := io.Pipe()
		go func() { _ = write.CloseWithError(exportKeys(write, secrets, random, first, last, limited)) }()
		if err := add(dir, read); err != nil {
			return errors.Join(err, read.Close())
		}
	}
	return nil
}

// exportKeys writes an export of the keys with ids from first to last, and
// their secrets. It is of the first version, which every program can read.
func exportKeys(to, secrets io.Writer, random io.Reader, first, last int, limited bool) error {
	w := bufio.NewWriterSize(to, 1<<16)
	fmt.Fprintln(w, `{"export":"tokenkit-authz","version":1}`)
	users := 0
	if first == 1 {
		users = 1
		fmt.Fprintf(w, `{"user":{"id":1,"username":%q,"created_at":"2026-03-01T12:00:00Z"}}`+"\n", owner)
	}
	limit := 0
	if limited {
		limit = hourlyLimit
	}
	for id := first; id <= last; id++ {
		secret, err := apikey.NewSecret(random)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(secrets, secret.Reveal()); err != nil {
			return err
		}
		fmt.Fprintf(w, `{"key":{"id":%d,"hash":%q,"hint":%q,"name":"my-app-%d","owner":1,"owner_name":%q,"rate_limit_per_hour":%d,"created_at":"2026-03-01T12:00:00Z"}}`+"\n",
			id, secret.Hash(), secret.Hint(), id, owner, limit)
	}
	fmt.Fprintf(w, `{"end":{"users":%d,"keys":%d,"last_user_id":1,"last_key_id":%d}}`+"\n", users, last-first+1, last)
	return w.Flush()
}

// copyTo copies the store into a data folder.
func (k *keyStore) copyTo(dir string) (err error) {
	from, err := os.Open(k.store)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	to, err := os.OpenFile(filepath.Join(dir, "keys.db"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}
