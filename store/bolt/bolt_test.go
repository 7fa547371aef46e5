package bolt_test

import (
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"github.com/tokenkithq/authz/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(dir string) storetest.Opener {
		return func() (store.Store, error) {
			return bolt.Open(t.Context(), filepath.Join(dir, "keys.db"), bolt.Options{})
		}
	})
}

// The cache is small enough to evict what the suite looks for, and large
// enough to find it.
func TestCachedStore(t *testing.T) {
	storetest.Run(t, func(dir string) storetest.Opener {
		return func() (store.Store, error) {
			keys, err := bolt.Open(t.Context(), filepath.Join(dir, "keys.db"), bolt.Options{})
			if err != nil {
				return nil, err
			}
			return store.NewCache(keys, store.CacheOptions{Keys: 6, Absent: 3}), nil
		}
	})
}
