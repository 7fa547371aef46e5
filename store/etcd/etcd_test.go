package etcd_test

import (
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/etcd"
	"github.com/tokenkithq/authz/store/storetest"
	"go.uber.org/goleak"
)

// replicaVariable asks a process to be a replica, see [serveReplica].
const replicaVariable = "TOKENKIT_ETCD_REPLICA"

func TestMain(m *testing.M) {
	etcdtest.Main()
	if endpoint := os.Getenv(replicaVariable); endpoint != "" {
		if err := serveReplica(endpoint); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		_ = os.Setenv("TMPDIR", memory)
	}
	flag.Parse()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		_ = checks.Value.Set("10") // each of some dozen changes, which a server syncs
	}
	goleak.VerifyTestMain(m)
}

// prefixes are different for each store of a test.
type prefixes struct{ made atomic.Int64 }

func (p *prefixes) next() string { return fmt.Sprintf("/test%d/", p.made.Add(1)) }

func TestStore(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	var prefixes prefixes
	storetest.Run(t, func(string) storetest.Opener {
		prefix := prefixes.next()
		return func() (store.Store, error) {
			return etcd.Open(t.Context(), etcd.Options{Endpoints: cluster.Endpoints(), Prefix: prefix, Staleness: 5 * time.Second})
		}
	})
}

// cached returns what the program uses: an index and a cache that follow.
func cached(keys *etcd.Store, o store.CacheOptions) *store.Cache {
	index := store.NewIndex(keys)
	o.Fresh = keys.Fresh
	cache := store.NewCache(index, o)
	keys.Follow(index.Follow)
	keys.Follow(cache.Follow)
	return cache
}

func TestCachedStore(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1)
	var prefixes prefixes
	storetest.Run(t, func(string) storetest.Opener {
		prefix := prefixes.next()
		return func() (store.Store, error) {
			keys, err := etcd.Open(t.Context(), etcd.Options{Endpoints: cluster.Endpoints(), Prefix: prefix})
			if err != nil {
				return nil, err
			}
			return cached(keys, store.CacheOptions{Keys: 6, Absent: 3}), nil
		}
	})
}
