package admin_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

// What the server takes to answer a search among 100,000 keys.
func BenchmarkSearch(b *testing.B) {
	keys := 100_000
	if testing.Short() {
		keys = 2_000
	}
	file, err := bolt.Open(b.Context(), filepath.Join(b.TempDir(), "keys.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := file.Close(); err != nil {
			b.Error(err)
		}
	})
	cached := store.NewCache(store.NewIndex(file), store.CacheOptions{})
	a, err := admin.New(admin.Options{Store: cached, Passwords: cheap})
	if err != nil {
		b.Fatal(err)
	}
	client := admin.NewLocalOperatorClient(a.Operator())
	owner, err := client.AddUser(b.Context(), admin.NewUser{Name: "ada", Password: adaPassword})
	if err != nil {
		b.Fatal(err)
	}
	fillKeys(b, cached, owner.ID, keys)
	for name, query := range map[string]string{
		"rare": "?search=key+1777&limit=50", "common": "?search=key&limit=50", "none": "?search=absent", "state": "?state=never_used&limit=50", "page": "?limit=50",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				w := httptest.NewRecorder()
				a.Operator().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://operator/operator/v1/keys"+query, nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

func fillKeys(b *testing.B, keys store.Keys, owner apikey.UserID, n int) {
	b.Helper()
	for i := 0; i < n; i += store.MaxBatch {
		batch := make([]*apikey.Key, store.MaxBatch)
		for j := range batch {
			key := &apikey.Key{
				Name: fmt.Sprintf("key %d of a service", i+j), Hint: fmt.Sprintf("tk_…%04d", (i+j)%10_000), Owner: owner, OwnerName: "ada", CreatedAt: time.Now().UTC(),
			}
			binary.BigEndian.PutUint64(key.Hash[:], uint64(i+j+1))
			batch[j] = key
		}
		if _, err := keys.CreateKeys(context.Background(), batch, store.Actor{}); err != nil {
			b.Fatal(err)
		}
	}
}
