package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"github.com/tokenkithq/authz/store/etcd"
	"github.com/tokenkithq/authz/store/records"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// all is what a store shows of what it holds.
type all struct {
	contents
	invitations []*store.Invitation
	sessions    []*store.Session
}

func allOf(t testing.TB, s store.Store) (a all) {
	t.Helper()
	r := &replica{Cache: store.NewCache(s, store.CacheOptions{})}
	a.contents = r.contents(t)
	var err error
	a.invitations, err = s.ListInvitations(context.Background())
	must(t, err)
	a.sessions, err = s.ListSessions(context.Background(), 0)
	must(t, err)
	return a
}

// fill makes a bit of everything, and removes some of it.
func fill(t testing.TB, s store.Store, keys int) {
	t.Helper()
	ctx := context.Background()
	for u := range 3 {
		name := fmt.Sprintf("user%d", u)
		_, err := s.CreateUser(ctx, &store.User{Name: name, Email: name + "@example.io", PasswordHash: "$argon2id$" + name, CreatedAt: noon}, by)
		must(t, err)
	}
	used := map[apikey.KeyID]time.Time{}
	for n := 0; n < keys; n += store.MaxBatch {
		var batch []*apikey.Key
		for i := range min(store.MaxBatch, keys-n) {
			batch = append(batch, &apikey.Key{
				Hash: hashOf(n + i), Name: fmt.Sprint(n + i), Owner: apikey.UserID(i%3 + 1), CreatedAt: noon,
				AllowedIPs: []netip.Prefix{netip.MustParsePrefix("203.0.113.10/32")},
			})
		}
		made, err := s.CreateKeys(ctx, batch, by)
		must(t, err)
		for _, key := range made {
			used[key.ID] = noon.Add(time.Duration(key.ID) * time.Second)
		}
	}
	must(t, s.TouchKeys(ctx, used))
	_, err := s.UpdateKey(ctx, 0, 1, func(key *apikey.Key) error {
		key.PreviousHash, key.PreviousHint, key.PreviousUntil, key.Hash = key.Hash, key.Hint, noon, hashOf(-1)
		return nil
	}, by)
	must(t, err)
	_, err = s.DeleteKey(ctx, 0, apikey.KeyID(keys), by)
	must(t, err)
	_, err = s.CreateUser(ctx, &store.User{Name: "gone", CreatedAt: noon}, by)
	must(t, err)
	_, err = s.DeleteUser(ctx, 4, by)
	must(t, err)
	id := store.SessionID(hashOf(-2))
	must(t, s.CreateSession(ctx, &store.Session{ID: id, User: 2, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}, by))
	must(t, s.TouchSessions(ctx, map[store.SessionID]time.Time{id: noon.Add(time.Minute)}))
	must(t, s.CreateInvitation(ctx, &store.Invitation{ID: store.InvitationID(hashOf(-3)), Name: "joe", CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}, by))
}

// Everything moves from a file to etcd and from there to another file, with an
// event for each move, and ids go on where they were.
func TestMove(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	ctx := t.Context()
	file, err := bolt.Open(ctx, filepath.Join(t.TempDir(), "keys.db"), bolt.Options{})
	must(t, err)
	defer file.Close()
	fill(t, file, 350)
	want := allOf(t, file)
	moved := func(s store.Store, event string) {
		t.Helper()
		got := allOf(t, s)
		if len(got.events) == 0 || string(got.events[0].Action) != event {
			t.Fatalf("the last event is %+v", got.events)
		}
		want.events = append([]*store.Event{got.events[0]}, want.events...)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %d users, %d keys, %d sessions, %d invitations, %d events, and something differs",
				len(got.users), len(got.keys), len(got.sessions), len(got.invitations), len(got.events))
		}
		for _, key := range want.keys {
			if found, err := s.FindKey(ctx, key.Hash); err != nil || found.ID != key.ID {
				t.Fatalf("key %d: %v", key.ID, err)
			}
		}
	}
	options := etcd.Options{Endpoints: cluster.Endpoints()}
	contents, err := etcd.Load(ctx, options, file, by)
	must(t, err)
	if contents.Keys != 349 || contents.Sessions != 1 || contents.Users != 3 || contents.Invitations != 1 {
		t.Errorf("%+v", contents)
	}
	r := open(t, options)
	moved(r.etcd, string(store.ActionImport))
	if _, err := etcd.Load(ctx, options, file, by); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	path := filepath.Join(t.TempDir(), "moved.db")
	must(t, os.WriteFile(path+".loading", []byte("left"), 0o600))
	_, err = bolt.Load(ctx, path, r.etcd, by)
	must(t, err)
	back, err := bolt.Open(ctx, path, bolt.Options{})
	must(t, err)
	defer back.Close()
	moved(back, string(store.ActionImport))
	if _, err := bolt.Load(ctx, path, r.etcd, by); err == nil {
		t.Error("a file was loaded in the place of another")
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, s := range []store.Store{r.etcd, back} {
		key, err := s.CreateKey(ctx, &apikey.Key{Hash: hashOf(-9), Name: "next", Owner: 1}, by)
		must(t, err)
		user, err := s.CreateUser(ctx, &store.User{Name: "next"}, by)
		must(t, err)
		if key.ID != 351 || user.ID != 5 {
			t.Errorf("the next ids are %d and %d", key.ID, user.ID)
		}
	}
}

// broken is a source that ends before its time.
type broken struct {
	records.Source
	after int
}

var errBroken = errors.New("broken")

func (b *broken) Dump(ctx context.Context, by store.Actor, fn func(records.Entry) error) (records.Contents, error) {
	return b.Source.Dump(ctx, by, func(e records.Entry) error {
		if b.after--; b.after < 0 {
			return errBroken
		}
		return fn(e)
	})
}

// What an interrupted move leaves is not opened, and the next move begins anew.
func TestMoveIsInterrupted(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	ctx := t.Context()
	long, err := bolt.Open(ctx, filepath.Join(t.TempDir(), "long.db"), bolt.Options{})
	must(t, err)
	defer long.Close()
	fill(t, long, 350)
	short, err := bolt.Open(ctx, filepath.Join(t.TempDir(), "short.db"), bolt.Options{})
	must(t, err)
	defer short.Close()
	fill(t, short, 2)
	options := etcd.Options{Endpoints: cluster.Endpoints()}
	if _, err := etcd.Load(ctx, options, &broken{long, 700}, by); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	left, err := cluster.Client(t).Get(ctx, etcd.DefaultPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(t, err)
	if left.Count < 100 {
		t.Fatalf("%d records are left, which proves nothing", left.Count)
	}
	if s, err := etcd.Open(ctx, options); err == nil {
		_ = s.Close()
		t.Fatal("half of a store was opened")
	}
	_, err = etcd.Load(ctx, options, short, by)
	must(t, err)
	r := open(t, options)
	want, got := allOf(t, short), allOf(t, r.etcd)
	got.events = got.events[1:]
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %d keys, want %d", len(got.keys), len(want.keys))
	}
	path := filepath.Join(t.TempDir(), "moved.db")
	if _, err := bolt.Load(ctx, path, &broken{long, 700}, by); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if found, err := filepath.Glob(path + "*"); err != nil || len(found) > 0 {
		t.Errorf("left behind: %v, %v", found, err)
	}
}
