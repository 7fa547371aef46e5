package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// DefaultLag is how much later leases are charged unless [Options] say
// otherwise.
const DefaultLag = 10 * time.Second

const (
	// renewEvery is for how long records get the same etcd lease, which lasts
	// recordLife.
	renewEvery = 30 * time.Minute
	recordLife = lease.AccountLife + 2*renewEvery
	// remembered is how many accounts are remembered, so that they need not be
	// read before they are written.
	remembered = 10_000
	// atOnce is how many records of one exchange are worked on at once.
	atOnce = 32
)

// Options say how an [Engine] works.
type Options struct {
	// Prefix begins the name of every record. Empty: "tokenkit/".
	Prefix string
	// Lag is how much later leases are charged, for the sake of replicas whose
	// shared clocks differ. Zero: [DefaultLag]. Negative: not at all, where
	// there is one replica only.
	Lag time.Duration
}

// Engine is a [lease.Engine] on etcd. It is safe for concurrent use.
type Engine struct {
	client *clientv3.Client
	prefix string
	lag    time.Duration
	clock  clock
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu       sync.Mutex // guards the rest
	accounts map[apikey.KeyID]version
	record   clientv3.LeaseID // of records written now
	renew    time.Time        // when they get another
}

var _ lease.Engine = (*Engine)(nil)

// version is an account as it was at a revision; zero: it was not there.
type version struct {
	revision int64
	account  lease.Account
}

// Open returns an engine on a client, which the caller closes after it.
func Open(ctx context.Context, client *clientv3.Client, o Options) (*Engine, error) {
	e := &Engine{client: client, prefix: cmp.Or(o.Prefix, "tokenkit/"), lag: max(0, cmp.Or(o.Lag, DefaultLag)), accounts: map[apikey.KeyID]version{}}
	e.clock.client, e.clock.key = client, e.prefix+"limit-clock"
	err := e.clock.look(ctx)
	if errors.Is(err, errClock) { // others began at the same time
		err = e.clock.look(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("opening limits in etcd: %w", err)
	}
	running, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.group.Go(func() { e.clock.run(running) })
	return e, nil
}

// Close ends what the engine does by itself.
func (e *Engine) Close() {
	e.cancel()
	e.group.Wait()
}

// Exchange implements [lease.Engine].
func (e *Engine) Exchange(ctx context.Context, requests []lease.Request, grants []lease.Grant) error {
	record, err := e.recordLease(ctx)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	var group sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for i := range requests {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			var err error
			if grants[i], err = e.exchange(ctx, &requests[i], record); err != nil {
				grants[i] = lease.Grant{Err: fmt.Errorf("etcd: %w", err)}
			}
		})
	}
	group.Wait()
	return nil
}

func (e *Engine) exchange(ctx context.Context, r *lease.Request, record clientv3.LeaseID) (lease.Grant, error) {
	key := e.prefix + "limit/" + strconv.FormatInt(int64(r.Key), 10)
	e.mu.Lock()
	known, found := e.accounts[r.Key]
	e.mu.Unlock()
	if !found {
		response, err := e.client.Get(ctx, key)
		if err != nil {
			return lease.Grant{}, fmt.Errorf("reading a limit: %w", err)
		}
		if known, err = versionOf((*pb.RangeResponse)(response)); err != nil {
			return lease.Grant{}, err
		}
	}
	later := *r
	later.Span += e.lag
	for {
		if err := ctx.Err(); err != nil {
			return lease.Grant{}, err
		}
		now, cluster, err := e.clock.fresh(ctx)
		if err != nil {
			return lease.Grant{}, err
		}
		account := known.account.Clone()
		grant := account.Exchange(&later, now, strconv.FormatUint(cluster, 36))
		response, err := e.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", known.revision)).
			Then(clientv3.OpPut(key, string(appendAccount(nil, &account)), clientv3.WithLease(record))).
			Else(clientv3.OpGet(key)).Commit()
		if err != nil {
			e.forget(r.Key, errors.Is(err, rpctypes.ErrLeaseNotFound))
			return lease.Grant{}, fmt.Errorf("writing a limit: %w", err)
		}
		if response.Succeeded {
			e.remember(r.Key, version{response.Header.Revision, account})
			return grant, nil
		}
		if known, err = versionOf(response.Responses[0].GetResponseRange()); err != nil {
			return lease.Grant{}, err
		}
	}
}

func versionOf(response *pb.RangeResponse) (version, error) {
	if len(response.Kvs) == 0 {
		return version{}, nil
	}
	account, err := decodeAccount(response.Kvs[0].Value)
	if err != nil {
		return version{}, fmt.Errorf("%s: %w", response.Kvs[0].Key, err)
	}
	return version{response.Kvs[0].ModRevision, account}, nil
}

func (e *Engine) remember(id apikey.KeyID, v version) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.accounts) >= remembered {
		clear(e.accounts)
	}
	e.accounts[id] = v
}

// forget has an account read again and, where etcd has forgotten the lease of
// records, another one granted.
func (e *Engine) forget(id apikey.KeyID, renew bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if renew {
		e.renew = time.Time{}
	}
	delete(e.accounts, id)
}

// recordLease returns the etcd lease with which records vanish that nobody
// writes any more.
func (e *Engine) recordLease(ctx context.Context) (clientv3.LeaseID, error) {
	e.mu.Lock()
	record, renew := e.record, e.renew
	e.mu.Unlock()
	if time.Now().Before(renew) {
		return record, nil
	}
	granted, err := e.client.Grant(ctx, int64(recordLife/time.Second))
	if err != nil {
		return 0, fmt.Errorf("granting a lease: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.record, e.renew = granted.ID, time.Now().Add(renewEvery)
	return granted.ID, nil
}

// Replicas implements [lease.Engine].
func (e *Engine) Replicas(ctx context.Context, replica uint64) (int, error) {
	granted, err := e.client.Grant(ctx, int64(lease.ReplicaLife/time.Second))
	if err != nil {
		return 0, fmt.Errorf("counting replicas in etcd: %w", err)
	}
	all := e.prefix + "limit-replicas/"
	response, err := e.client.Txn(ctx).Then(
		clientv3.OpPut(all+strconv.FormatUint(replica, 36), "", clientv3.WithLease(granted.ID)),
		clientv3.OpGet(all, clientv3.WithPrefix(), clientv3.WithCountOnly())).Commit()
	if err != nil {
		return 0, fmt.Errorf("counting replicas in etcd: %w", err)
	}
	return int(response.Responses[1].GetResponseRange().Count), nil
}
