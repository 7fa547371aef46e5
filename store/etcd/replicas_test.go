package etcd_test

import (
	"context"
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
