package etcd_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
)

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

// A user of etcd who may use the prefix and nothing else is enough, and no error
// shows a password.
func TestUsers(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	client := cluster.Client(t)
	ctx := t.Context()
	ok := func(_ any, err error) {
		t.Helper()
		must(t, err)
	}
	ok(client.UserAdd(ctx, "root", "root"))
	ok(client.UserGrantRole(ctx, "root", "root"))
	ok(client.RoleAdd(ctx, "app"))
	ok(client.RoleGrantPermission(ctx, "app", "/app/", clientv3.GetPrefixRangeEnd("/app/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	ok(client.UserAdd(ctx, "app", "canary"))
	ok(client.UserGrantRole(ctx, "app", "app"))
	ok(client.AuthEnable(ctx))
	options := etcd.Options{Endpoints: cluster.Endpoints(), Prefix: "/app", Username: "app", Password: "canary", DialTimeout: 5 * time.Second}
	r, other := open(t, options), open(t, options)
	r.user(t)
	key := r.key(t, 1)
	must(t, other.TouchKeys(ctx, map[apikey.KeyID]time.Time{key.ID: noon}))
	if _, err := other.DeleteKey(ctx, 0, key.ID, by); err != nil {
		t.Fatal(err)
	}
	r.finds(t, 1, store.ErrNotFound)
	must(t, other.Close())
	r.key(t, 2) // and does not wait for the one that has left
	for name, change := range map[string]func(*etcd.Options){
		"a wrong password": func(o *etcd.Options) { o.Password = "wrong-canary" },
		"nobody":           func(o *etcd.Options) { o.Username, o.Password = "", "" },
		"another prefix":   func(o *etcd.Options) { o.Prefix = "/other" },
	} {
		o := options
		change(&o)
		s, err := etcd.Open(ctx, o)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: it was opened", name)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error shows the password", name)
		}
	}
}
