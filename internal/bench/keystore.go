package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

// storeVersion is part of the name of a store that is kept, so that one which
// was made otherwise is not used.
const storeVersion = 1

// hourlyLimit of the keys that have one: more than any run makes calls.
const hourlyLimit = 1_000_000_000

// owner of all keys.
const owner = "bench"

// keyStore is a store of keys of a data folder and the keys themselves.
type keyStore struct {
	store   string
	secrets string
}

// keyStoreOf returns a store of n keys, with limits or without. It is made
// once and kept in the user's folder of caches.
func keyStoreOf(ctx context.Context, n int, limited bool) (*keyStore, error) {
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
	if err := makeKeys(ctx, making, n, limited); err != nil {
		return nil, fmt.Errorf("making %d keys: %w", n, err)
	}
	return k, os.Rename(making, dir)
}

func makeKeys(ctx context.Context, dir string, n int, limited bool) (err error) {
	secrets, err := os.OpenFile(filepath.Join(dir, "secrets"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, secrets.Close()) }()
	keys, err := bolt.Open(ctx, filepath.Join(dir, "keys.db"), bolt.Options{CommitTimeout: time.Hour})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keys.Close()) }()
	random := rand.NewChaCha8([32]byte{byte(storeVersion)})
	// One transaction with all of them would keep all of its pages in memory.
	const batch = 50_000
	for first := 1; first <= n; first += batch {
		last := min(first+batch-1, n)
		read, write := io.Pipe()
		go func() { _ = write.CloseWithError(exportKeys(write, secrets, random, first, last, limited)) }()
		if _, err := keys.Import(ctx, read); err != nil {
			return errors.Join(err, read.Close())
		}
	}
	return nil
}

// exportKeys writes the keys with ids from first to last, and their secrets.
func exportKeys(w, secrets io.Writer, random io.Reader, first, last int, limited bool) error {
	export := store.NewExportWriter(w, false)
	now := time.Now().UTC().Truncate(time.Microsecond)
	if first == 1 {
		if err := export.User(&store.User{ID: 1, Name: owner, CreatedAt: now}); err != nil {
			return err
		}
	}
	for id := first; id <= last; id++ {
		secret, err := apikey.NewSecret(random)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(secrets, secret.Reveal()); err != nil {
			return err
		}
		key := &apikey.Key{
			ID: apikey.KeyID(id), Hash: secret.Hash(), Hint: secret.Hint(), Name: fmt.Sprintf("my-app-%d", id), Owner: 1, OwnerName: owner, CreatedAt: now,
		}
		if limited {
			key.RateLimitPerHour = hourlyLimit
		}
		if err := export.Key(key); err != nil {
			return err
		}
	}
	return export.Close(1, apikey.KeyID(last))
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
