package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Whatever becomes of the servers, no change that was acknowledged is lost, none
// is made in part or twice, and all replicas agree in the end.
func TestServersFail(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 3)
	all := make([]*replica, 3)
	for i := range all {
		all[i] = open(t, etcd.Options{Endpoints: cluster.Endpoints(), Staleness: 10 * time.Second, RequestTimeout: 5 * time.Second})
	}
	all[0].user(t)
	var stop atomic.Bool
	var acknowledged, failed atomic.Int64
	type outcome struct{ made, deleted, unknown bool }
	outcomes := make([]map[int]*outcome, len(all))
	var work sync.WaitGroup
	for i, r := range all {
		outcomes[i] = map[int]*outcome{}
		work.Go(func() {
			for n := i * 1_000_000; !stop.Load(); n++ {
				o := &outcome{}
				outcomes[i][n] = o
				key, err := r.CreateKey(context.Background(), &apikey.Key{Hash: hashOf(n), Name: fmt.Sprint(n), Owner: 1, CreatedAt: noon}, by)
				if err == nil && n%3 == 0 {
					o.made = true
					acknowledged.Add(1)
					_, err = r.DeleteKey(context.Background(), 0, key.ID, by)
					o.deleted = err == nil
				}
				switch {
				case err == nil:
					o.made = true
					acknowledged.Add(1)
				case errors.Is(err, store.ErrUnavailable):
					o.unknown = true
					failed.Add(1)
				default:
					t.Errorf("change %d: %v", n, err)
					return
				}
			}
		})
	}
	progress := func() {
		t.Helper()
		before := acknowledged.Load()
		eventually(t, "a change", func() bool { return acknowledged.Load() > before+20 || t.Failed() })
	}
	for range rounds(t, 1, 5) {
		progress()
		leader := cluster.Leader(t)
		cluster.Members[leader].Kill(t)
		progress()
		cluster.Members[leader].Start(t)
		progress()
		if rounds(t, 0, 1) == 0 {
			break
		}
		follower := (cluster.Leader(t) + 1) % 3
		cluster.Members[follower].Pause(t)
		progress()
		cluster.Members[follower].Resume(t)
		progress()
		leader = cluster.Leader(t)
		cluster.Members[leader].Pause(t)
		progress()
		cluster.Members[leader].Resume(t)
	}
	progress()
	stop.Store(true)
	work.Wait()
	all[0].key(t, -1) // a last change, which all replicas have when it is acknowledged
	want := all[0].contents(t)
	for _, r := range all[1:] {
		if !reflect.DeepEqual(r.contents(t), want) {
			t.Error("two replicas hold different things")
		}
	}
	for i := range all {
		for n, o := range outcomes[i] {
			_, err := all[0].FindKey(t.Context(), hashOf(n))
			switch {
			case o.unknown && (err == nil || errors.Is(err, store.ErrNotFound)):
			case o.made && !o.deleted && err != nil:
				t.Errorf("key %d was acknowledged: %v", n, err)
			case o.deleted && !errors.Is(err, store.ErrNotFound):
				t.Errorf("the deletion of key %d was acknowledged: %v", n, err)
			}
		}
	}
	for i, event := range want.events {
		if id := uint64(len(want.events) - i); event.ID != id {
			t.Fatalf("event %d has id %d", id, event.ID)
		}
	}
	t.Logf("acknowledged=%d unknown=%d lost=0", acknowledged.Load(), failed.Load())
}

// watched asks a replica for a key all the time, and knows when it was found
// last.
type watched struct {
	stop chan struct{}
	done chan struct{}
	last atomic.Int64 // the begin of the last search that found it, Unix time in nanoseconds
	odd  atomic.Value // an error that is neither
}

func watch(r *replica, n int) *watched {
	w := &watched{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			begin := time.Now()
			_, err := r.FindKey(context.Background(), hashOf(n))
			switch {
			case err == nil:
				w.last.Store(begin.UnixNano())
			case !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrUnavailable):
				w.odd.Store(err)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	return w
}

// end checks that no search that began after a moment has found the key.
func (w *watched) end(t *testing.T, deleted time.Time) {
	t.Helper()
	close(w.stop)
	<-w.done
	if last := w.last.Load(); last == 0 {
		t.Error("the key was never found, which proves nothing")
	} else if last > deleted.UnixNano() {
		t.Errorf("a deleted key was found %v later", time.Duration(last-deleted.UnixNano()))
	}
	if err := w.odd.Load(); err != nil {
		t.Errorf("searching: %v", err)
	}
}

// A replica that is cut off goes on for a while, then denies, and a deletion is
// acknowledged only then. When it is back it has missed nothing, even where etcd
// has forgotten the past.
func TestReplicaIsCutOff(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	proxy, endpoints := cluster.Tunnels(t)
	const staleness = 3 * time.Second
	a := open(t, etcd.Options{Endpoints: cluster.Endpoints(), Staleness: staleness})
	b := open(t, etcd.Options{Endpoints: endpoints, Staleness: staleness})
	a.user(t)
	kept, doomed := a.key(t, 1), a.key(t, 2)
	first, second := a.key(t, 10), a.key(t, 11)
	b.finds(t, 1, nil)
	b.finds(t, 3, store.ErrNotFound)
	for round := range rounds(t, 1, 5) {
		w := watch(b, 2)
		eventually(t, "a search", func() bool { return w.last.Load() > 0 })
		proxy.Cut()
		b.finds(t, 1, nil)
		begin := time.Now()
		_, err := a.DeleteKey(t.Context(), 0, doomed.ID, by)
		must(t, err)
		deleted := time.Now()
		t.Logf("a deletion took %v while a replica was cut off", deleted.Sub(begin))
		b.finds(t, 1, store.ErrUnavailable)
		b.finds(t, 3, store.ErrUnavailable)
		if _, err := b.ListKeys(t.Context(), 0); !errors.Is(err, store.ErrUnavailable) || b.etcd.Fresh() == nil {
			t.Errorf("a replica that is cut off: %v", err)
		}
		doomed = a.key(t, 2) // under another id
		for n := range 50 {
			a.key(t, 1000*(round+1)+n)
		}
		if _, err := a.DeleteKey(t.Context(), 0, doomed.ID, by); err != nil {
			t.Fatal(err)
		}
		// The second key gets another secret, and the first takes that one over.
		a.rotate(t, second.ID, 100*round+12)
		a.rotate(t, first.ID, 100*round+11)
		client := cluster.Client(t)
		head, err := client.Get(t.Context(), "any")
		must(t, err)
		_, err = client.Compact(t.Context(), head.Header.Revision, clientv3.WithCompactPhysical())
		must(t, err)
		proxy.Heal()
		eventually(t, "coming back", func() bool { return b.etcd.Fresh() == nil })
		b.finds(t, 2, store.ErrNotFound)
		w.end(t, deleted)
		if got := b.finds(t, 100*round+11, nil); got.ID != first.ID {
			t.Errorf("a secret leads to key %d", got.ID)
		}
		a.rotate(t, second.ID, 100*round+111)
		if got := b.finds(t, 1, nil); !reflect.DeepEqual(got, kept) {
			t.Errorf("got %+v", got)
		}
		if !reflect.DeepEqual(a.contents(t), b.contents(t)) {
			t.Error("two replicas hold different things")
		}
		doomed = b.key(t, 2)
	}
	if stats := b.etcd.Stats(); stats.Relists == 0 || stats.Registrations == 0 {
		t.Errorf("%+v", stats)
	}
}

// A change whose answer is lost is made once.
func TestAnswersAreLost(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	proxy, endpoints := cluster.Tunnels(t)
	r := open(t, etcd.Options{Endpoints: endpoints, RequestTimeout: time.Minute, Staleness: 2 * time.Second})
	other := open(t, etcd.Options{Endpoints: cluster.Endpoints(), Staleness: 2 * time.Second})
	r.user(t)
	for n := range rounds(t, 2, 20) {
		proxy.CutAnswers()
		done := make(chan error, 1)
		go func() {
			_, err := r.CreateKey(context.Background(), &apikey.Key{Hash: hashOf(n), Name: "key", Owner: 1, CreatedAt: noon}, by)
			done <- err
		}()
		eventually(t, "the change", func() bool {
			_, err := other.FindKey(t.Context(), hashOf(n))
			return err == nil
		})
		if n%2 == 1 { // another change hides the first
			if _, err := other.UpdateUser(t.Context(), 1, func(user *store.User) error {
				user.Email = fmt.Sprintf("ada%d@example.io", n)
				return nil
			}, by); err != nil {
				t.Fatal(err)
			}
		}
		proxy.Break()
		must(t, <-done)
	}
	if r.etcd.Stats().Doubtful == 0 {
		t.Error("no answer was lost, which proves nothing")
	}
	c := other.contents(t)
	if want := rounds(t, 2, 20); len(c.keys) != want || len(c.events) != 1+want+want/2 {
		t.Errorf("%d keys, %d events", len(c.keys), len(c.events))
	}
}

// A time of last use that another replica writes while a key is deleted is not
// left behind.
func TestDeletedWhileTouched(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	proxy, endpoints := cluster.Tunnels(t)
	r := open(t, etcd.Options{Endpoints: endpoints})
	other := open(t, etcd.Options{Endpoints: cluster.Endpoints()})
	r.user(t)
	key := r.key(t, 1)
	proxy.CutAnswers()
	must(t, other.TouchKeys(t.Context(), map[apikey.KeyID]time.Time{key.ID: noon}))
	done := make(chan error, 1)
	go func() {
		_, err := r.DeleteKey(context.Background(), 0, key.ID, by)
		done <- err
	}()
	eventually(t, "the deletion", func() bool {
		_, err := other.FindKey(t.Context(), hashOf(1))
		return errors.Is(err, store.ErrNotFound)
	})
	proxy.Heal()
	must(t, <-done)
	kept, err := cluster.Client(t).Get(t.Context(), etcd.DefaultPrefix+"l/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(t, err)
	if kept.Count != 0 {
		t.Error("a time of last use is left of a key that was deleted")
	}
}

// A registration that ends is made again.
func TestLeaseIsLost(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	r := open(t, etcd.Options{Endpoints: cluster.Endpoints(), Staleness: 2 * time.Second})
	r.user(t)
	r.key(t, 1)
	client := cluster.Client(t)
	leases, err := client.Leases(t.Context())
	must(t, err)
	for _, lease := range leases.Leases {
		_, err := client.Revoke(t.Context(), lease.ID)
		must(t, err)
	}
	eventually(t, "registering again", func() bool { s := r.etcd.Stats(); return s.Registrations == 1 && s.Fresh > 0 && s.Replicas == 1 })
	r.finds(t, 1, nil)
}
