package bolt_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"github.com/tokenkithq/authz/store/storetest"
	"go.uber.org/goleak"
)

// TestMain keeps the files of tests in memory where it can: they make thousands
// of changes, and what a sync is good for is shown in [TestPowerLoss].
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		_ = os.Setenv("TMPDIR", memory)
	}
	goleak.VerifyTestMain(m)
}

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
			return store.NewCache(store.NewIndex(keys), store.CacheOptions{Keys: 6, Absent: 3}), nil
		}
	})
}
