package etcd_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	by   = store.Actor{Kind: store.ActorOperator, Name: "tester", At: noon}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hashOf(n int) apikey.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// replica is a store with the cache and index of a server.
type replica struct {
	*store.Cache
	etcd *etcd.Store
}

func open(t testing.TB, o etcd.Options) *replica {
	t.Helper()
	keys, err := etcd.Open(context.Background(), o)
	must(t, err)
	r := &replica{cached(keys, store.CacheOptions{}), keys}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (r *replica) key(t testing.TB, n int) *apikey.Key {
	t.Helper()
	key, err := r.CreateKey(context.Background(), &apikey.Key{Hash: hashOf(n), Name: fmt.Sprint(n), Owner: 1, CreatedAt: noon}, by)
	must(t, err)
	return key
}

// rotate gives a key another secret.
func (r *replica) rotate(t testing.TB, id apikey.KeyID, n int) {
	t.Helper()
	_, err := r.UpdateKey(context.Background(), 0, id, func(key *apikey.Key) error {
		key.Hash = hashOf(n)
		return nil
	}, by)
	must(t, err)
}

func (r *replica) user(t testing.TB) *store.User {
	t.Helper()
	user, err := r.CreateUser(context.Background(), &store.User{Name: "ada", CreatedAt: noon}, by)
	must(t, err)
	return user
}

// finds checks what a replica says of a hash.
func (r *replica) finds(t testing.TB, n int, want error) *apikey.Key {
	t.Helper()
	key, err := r.FindKey(context.Background(), hashOf(n))
	if !errors.Is(err, want) || (err == nil) != (want == nil) {
		t.Fatalf("key %d: got %v, want %v", n, err, want)
	}
	return key
}

// eventually waits for what takes its time.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// contents are all that a store holds, but for when it was used.
type contents struct {
	users  []*store.User
	keys   []*apikey.Key
	events []*store.Event
}

func (r *replica) contents(t testing.TB) (c contents) {
	t.Helper()
	var err error
	c.users, err = r.ListUsers(context.Background())
	must(t, err)
	c.keys, err = r.ListKeys(context.Background(), 0)
	must(t, err)
	for before := uint64(0); ; {
		events, err := r.ListEvents(context.Background(), store.EventFilter{Before: before, Limit: store.MaxEvents})
		must(t, err)
		c.events = append(c.events, events...)
		if len(events) == 0 {
			return c
		}
		before = events[len(events)-1].ID
	}
}

// rounds is what TOKENKIT_CLUSTER asks for.
func rounds(t testing.TB, short, long int) int {
	t.Helper()
	if os.Getenv("TOKENKIT_CLUSTER") == "long" {
		return long
	}
	return short
}
