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

func TestCachedStore(t *testing.T) {
	for name, o := range map[string]store.CacheOptions{"default": {}, "tiny": {Keys: 2, Absent: 1}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(dir string) storetest.Opener {
				return func() (store.Store, error) {
					keys, err := bolt.Open(t.Context(), filepath.Join(dir, "keys.db"), bolt.Options{})
					if err != nil {
						return nil, err
					}
					return store.NewCache(keys, o), nil
				}
			})
		})
	}
}
