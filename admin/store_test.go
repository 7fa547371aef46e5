package admin_test

import (
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"go.uber.org/goleak"
)

// openStore opens a cached store in a file of its own.
func openStore(t testing.TB) admin.Store {
	t.Helper()
	file, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return store.NewCache(file, store.CacheOptions{})
}

// What a test starts ends with it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
