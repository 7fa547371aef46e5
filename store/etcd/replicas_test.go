package etcd_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
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

// A change that was acknowledged is what every replica says, through its cache
// and index, from then on.
func TestReplicasAgree(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	var all []*replica
	for range 3 {
		all = append(all, open(t, etcd.Options{Endpoints: cluster.Endpoints()}))
	}
	ctx := t.Context()
	all[0].user(t)
	for round := range 30 {
		one := all[round%3]
		each := func(check func(r *replica)) {
			t.Helper()
			for _, r := range all {
				check(r)
			}
		}
		found := func(text string) (ids []apikey.KeyID) {
			t.Helper()
			each(func(r *replica) {
				page, err := r.SearchKeys(ctx, store.KeyFilter{Search: text})
				must(t, err)
				if ids = nil; len(page.Keys) > 0 {
					ids = append(ids, page.Keys[0].ID)
				}
			})
			return ids
		}
		n := round * 10
		each(func(r *replica) { r.finds(t, n, store.ErrNotFound) })
		key := one.key(t, n)
		each(func(r *replica) { r.finds(t, n, nil) })
		_, err := all[(round+1)%3].UpdateKey(ctx, 0, key.ID, func(key *apikey.Key) error {
			key.Disabled, key.Name = true, fmt.Sprintf("changed %d", round)
			return nil
		}, by)
		must(t, err)
		each(func(r *replica) {
			if !r.finds(t, n, nil).Disabled {
				t.Fatal("a replica does not know that a key is disabled")
			}
		})
		if ids := found(fmt.Sprintf("changed %d", round)); !slices.Equal(ids, []apikey.KeyID{key.ID}) {
			t.Fatalf("searching found %v", ids)
		}
		_, err = one.UpdateKey(ctx, 0, key.ID, func(key *apikey.Key) error {
			key.Hash = hashOf(n + 1)
			return nil
		}, by)
		must(t, err)
		each(func(r *replica) { r.finds(t, n, store.ErrNotFound) })
		each(func(r *replica) { r.finds(t, n+1, nil) })
		_, err = all[(round+2)%3].DeleteKey(ctx, 0, key.ID, by)
		must(t, err)
		each(func(r *replica) { r.finds(t, n+1, store.ErrNotFound) })
		if ids := found(fmt.Sprintf("changed %d", round)); len(ids) > 0 {
			t.Fatalf("searching found %v", ids)
		}
		id := store.SessionID(hashOf(n))
		must(t, one.CreateSession(ctx, &store.Session{ID: id, User: 1, CreatedAt: noon, ExpiresAt: noon.Add(time.Hour)}, by))
		each(func(r *replica) {
			_, err := r.FindSession(ctx, id)
			must(t, err)
		})
		must(t, all[(round+1)%3].SetPasswordHash(ctx, 1, "", fmt.Sprint(round), nil, by))
		each(func(r *replica) {
			if _, err := r.FindSession(ctx, id); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("a session that has ended: %v", err)
			}
		})
	}
	if stats := all[0].etcd.Stats(); stats.Replicas != 3 {
		t.Errorf("%+v", stats)
	}
	// One that leaves is not waited for.
	must(t, all[2].Close())
	all[0].key(t, 1000)
	if stats := all[0].etcd.Stats(); stats.Replicas != 2 {
		t.Errorf("%+v", stats)
	}
}

// Replicas that make changes at the same time lose none, give no id twice, and
// leave one event for each.
func TestReplicasConflict(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	changes := rounds(t, 200, 1000)
	all := []*replica{open(t, etcd.Options{Endpoints: cluster.Endpoints()}), open(t, etcd.Options{Endpoints: cluster.Endpoints()})}
	all[0].user(t)
	made := make([][]*apikey.Key, len(all))
	var work sync.WaitGroup
	for i, r := range all {
		work.Go(func() {
			for n := range changes / len(all) {
				key, err := r.CreateKey(context.Background(), &apikey.Key{Hash: hashOf(i*changes + n), Name: "key", Owner: 1, CreatedAt: noon}, by)
				if err != nil {
					t.Error(err)
					return
				}
				made[i] = append(made[i], key)
			}
		})
	}
	work.Wait()
	if t.Failed() {
		return
	}
	want := slices.Concat(made...)
	slices.SortFunc(want, func(a, b *apikey.Key) int { return int(a.ID - b.ID) })
	first := all[0].contents(t)
	if !reflect.DeepEqual(first.keys, want) {
		t.Errorf("%d keys, and other than those that were acknowledged", len(first.keys))
	}
	if !reflect.DeepEqual(first, all[1].contents(t)) {
		t.Error("two replicas hold different things")
	}
	for i, event := range first.events {
		if want := uint64(len(first.events) - i); event.ID != want {
			t.Fatalf("event %d has id %d", want, event.ID)
		}
	}
	if len(first.events) != changes/2*2+1 {
		t.Errorf("%d events of %d changes", len(first.events), changes+1)
	}
	conflicts := all[0].etcd.Stats().Conflicts + all[1].etcd.Stats().Conflicts
	if conflicts == 0 {
		t.Error("there was no conflict, which proves nothing")
	}
	t.Logf("changes=%d conflicts=%d", changes, conflicts)
}

// Times of last use only move forward, whoever writes them, and none is left of
// a key that was deleted.
func TestReplicasTouch(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	all := []*replica{open(t, etcd.Options{Endpoints: cluster.Endpoints()}), open(t, etcd.Options{Endpoints: cluster.Endpoints()})}
	all[0].user(t)
	const keys = 150
	for n := range keys {
		all[0].key(t, n)
	}
	latest := make([]int, 2)
	var work sync.WaitGroup
	for i, r := range all {
		work.Go(func() {
			for round := range 20 {
				used := map[apikey.KeyID]time.Time{}
				at := (round*7 + i*13) % 40
				latest[i] = max(latest[i], at)
				for n := range keys {
					used[apikey.KeyID(n+1)] = noon.Add(time.Duration(at) * time.Second)
				}
				if err := r.TouchKeys(context.Background(), used); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Go(func() {
		for n := range 20 {
			if _, err := all[0].DeleteKey(context.Background(), 0, apikey.KeyID(n+1), by); err != nil {
				t.Error(err)
			}
		}
	})
	work.Wait()
	want := noon.Add(time.Duration(max(latest[0], latest[1])) * time.Second)
	for _, r := range all {
		// Others are not waited for.
		eventually(t, "the last use of every key", func() bool {
			return !slices.ContainsFunc(r.contents(t).keys, func(key *apikey.Key) bool { return !key.LastUsedAt.Equal(want) })
		})
	}
	kept, err := cluster.Client(t).Get(t.Context(), etcd.DefaultPrefix+"l/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(t, err)
	if kept.Count != keys-20 {
		t.Errorf("%d times of last use are kept, want %d", kept.Count, keys-20)
	}
}

// The audit log is bounded.
func TestAuditIsBounded(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	r := open(t, etcd.Options{Endpoints: cluster.Endpoints(), AuditEvents: 50})
	for n := range 200 {
		must(t, r.AppendEvent(t.Context(), &store.Event{By: by, Action: store.ActionLoginFail, TargetName: fmt.Sprint(n)}))
	}
	events := r.contents(t).events
	if len(events) < 50 || len(events) > 52 {
		t.Errorf("%d events", len(events))
	}
	for i, event := range events {
		if event.ID != uint64(200-i) || event.TargetName != fmt.Sprint(199-i) {
			t.Fatalf("event %d is %d, %s", i, event.ID, event.TargetName)
		}
	}
}

// A record that was damaged is damage for whoever asks for it or might mean it,
// and for nobody else.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	options := etcd.Options{Endpoints: cluster.Endpoints()}
	r := open(t, options)
	r.user(t)
	r.key(t, 1)
	r.key(t, 2)
	client := cluster.Client(t)
	name := etcd.DefaultPrefix + "k/" + string(binary.BigEndian.AppendUint64(nil, 1))
	good, err := client.Get(t.Context(), name)
	must(t, err)
	bad := slices.Clone(good.Kvs[0].Value)
	bad[len(bad)/2] ^= 1
	_, err = client.Put(t.Context(), name, string(bad))
	must(t, err)
	eventually(t, "damage", func() bool { return r.etcd.Stats().Damaged == 1 })
	for _, r := range []*replica{r, open(t, options)} {
		r.finds(t, 1, store.ErrDamaged)
		r.finds(t, 99, store.ErrDamaged) // it may be that key's
		r.finds(t, 2, nil)
		if _, err := r.DeleteKey(t.Context(), 0, 1, by); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("deleting: %v", err)
		}
	}
	_, err = client.Put(t.Context(), name, string(good.Kvs[0].Value))
	must(t, err)
	eventually(t, "repair", func() bool { return r.etcd.Stats().Damaged == 0 })
	r.finds(t, 1, nil)
	r.finds(t, 99, store.ErrNotFound)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	client := cluster.Client(t)
	for name, value := range map[string]string{
		"/foreign/format": "something", "/newer/format": "tokenkit-authz keys, version 3", "/loading/format": "tokenkit-authz keys, being loaded", "/other/x": "1",
	} {
		_, err := client.Put(t.Context(), name, value)
		must(t, err)
	}
	for _, c := range []struct {
		name string
		o    etcd.Options
	}{
		{"no endpoint", etcd.Options{}},
		{"an endpoint with a password", etcd.Options{Endpoints: []string{"http://a:b@localhost:2379"}}},
		{"a password without a user", etcd.Options{Endpoints: cluster.Endpoints(), Password: "canary"}},
		{"a staleness below the least", etcd.Options{Endpoints: cluster.Endpoints(), Staleness: time.Second}},
		{"a staleness of half seconds", etcd.Options{Endpoints: cluster.Endpoints(), Staleness: 2500 * time.Millisecond}},
		{"a negative timeout", etcd.Options{Endpoints: cluster.Endpoints(), RequestTimeout: -1}},
		{"something foreign", etcd.Options{Endpoints: cluster.Endpoints(), Prefix: "/foreign"}},
		{"a newer store", etcd.Options{Endpoints: cluster.Endpoints(), Prefix: "/newer"}},
		{"a half of a store", etcd.Options{Endpoints: cluster.Endpoints(), Prefix: "/loading"}},
		{"other names", etcd.Options{Endpoints: cluster.Endpoints(), Prefix: "/other"}},
		{"nobody there", etcd.Options{Endpoints: []string{"127.0.0.1:1"}, DialTimeout: 100 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := etcd.Open(t.Context(), c.o)
			if err == nil {
				_ = s.Close()
				t.Fatal("it was opened")
			}
			t.Log(err)
		})
	}
}
