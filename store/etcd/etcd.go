// Package etcd keeps keys, users, invitations, sessions and the audit log in
// etcd, for any number of replicas of the program.
//
//	keys, err := etcd.Open(ctx, etcd.Options{Endpoints: []string{"https://10.0.0.1:2379"}})
//	defer keys.Close()
//	index := store.NewIndex(keys)
//	cache := store.NewCache(index, store.CacheOptions{Fresh: keys.Fresh})
//	keys.Follow(index.Follow)
//	keys.Follow(cache.Follow)
//	key, err := cache.FindKey(ctx, secret.Hash())
//
// Each replica holds all of it in memory, which etcd keeps up to date, so that
// finding a key needs no network: about 0.4 KiB a key.
//
// # Changes
//
// A change is decided on what the replica holds and made in one transaction of
// etcd, on condition that no other change was made meanwhile; otherwise it is
// decided again. It is acknowledged when all replicas have it. One that does
// not answer is waited for: where the change only adds something, a second, and
// else until it cannot accept anything any more, see below. A change whose
// outcome etcd did not tell is looked for and made again if it was not made.
//
// # Revocation
//
// A replica is registered as long as it renews a lease in time. It reports how
// far it has come, and it renews the lease only while it comes along. By its own
// clock it knows when the lease may end, and from then on finds nothing:
// everything is [store.ErrUnavailable] until it is registered again and has
// come along. So when DeleteKey has returned, no replica accepts the key: each
// has either reported that it has the change, or lost its registration, of
// which it knows. While all are connected that takes milliseconds, and
// [Options.Staleness] at most, and a little, where one was cut off or crashed.
//
// # Limits of etcd
//
// A change must fit one request, 1.5 MiB by default. The election timeout of
// the servers must be less than a tenth of [Options.Staleness].
package etcd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Options says where etcd is and how it is used. Endpoints are needed, all else
// has a useful zero value.
type Options struct {
	// Endpoints are the servers' addresses for clients: host:port, or a URL with
	// http or https.
	Endpoints []string
	// Prefix is what all names in etcd begin with. Stores of different prefixes
	// have nothing to do with each other. Empty: [DefaultPrefix]. A slash is
	// added where it does not end with one.
	Prefix string
	// Username and Password are those of etcd's own users. Empty: none.
	Username, Password string
	// TLS is how connections are encrypted; nil: they are not, but for endpoints
	// with https, where the system's authorities are trusted.
	TLS *tls.Config
	// DialTimeout is how long Open waits for etcd to answer, but for reading all
	// that is there, which takes its time. Zero: 10 seconds.
	DialTimeout time.Duration
	// RequestTimeout is how long a change may wait for etcd before it is
	// answered with [store.ErrUnavailable]. Zero: 10 seconds.
	RequestTimeout time.Duration
	// Staleness is how long a replica that cannot reach etcd goes on with what
	// it knows, at most, and how long a deletion waits for one that cannot be
	// reached. Whole seconds, at least [MinStaleness]. Zero: 30 seconds.
	Staleness time.Duration
	// AuditEvents is about how many events the audit log keeps, the newest ones.
	// Zero: [DefaultAuditEvents].
	AuditEvents int
	// Logger is told when etcd is lost and found again. Nil: nobody is.
	Logger *slog.Logger
}

// The defaults and bounds of [Options].
const (
	DefaultPrefix         = "/tokenkit-authz/"
	DefaultDialTimeout    = 10 * time.Second
	DefaultRequestTimeout = 10 * time.Second
	DefaultStaleness      = 30 * time.Second
	MinStaleness          = 2 * time.Second
	DefaultAuditEvents    = 100_000
)

func (o Options) withDefaults() (Options, error) {
	if len(o.Endpoints) == 0 {
		return o, errors.New("endpoints: expected at least one")
	}
	for i, endpoint := range o.Endpoints {
		if !isEndpoint(endpoint) {
			return o, fmt.Errorf("endpoints[%d]: expected HOST:PORT, or a URL with http or https and no more than that", i)
		}
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !strings.HasSuffix(o.Prefix, "/") {
		o.Prefix += "/"
	}
	if o.Username == "" && o.Password != "" {
		return o, errors.New("username: expected one, since there is a password")
	}
	for _, d := range []struct {
		name    string
		value   *time.Duration
		least   time.Duration
		instead time.Duration
	}{
		{"dial timeout", &o.DialTimeout, time.Millisecond, DefaultDialTimeout},
		{"request timeout", &o.RequestTimeout, time.Millisecond, DefaultRequestTimeout},
		{"staleness", &o.Staleness, MinStaleness, DefaultStaleness},
	} {
		if *d.value == 0 {
			*d.value = d.instead
		}
		if *d.value < d.least {
			return o, fmt.Errorf("%s: expected at least %v, got %v", d.name, d.least, *d.value)
		}
	}
	if o.Staleness%time.Second != 0 {
		return o, fmt.Errorf("staleness: expected whole seconds, got %v", o.Staleness)
	}
	if o.AuditEvents < 0 {
		return o, fmt.Errorf("audit events: expected a number that is not negative, got %d", o.AuditEvents)
	}
	if o.AuditEvents == 0 {
		o.AuditEvents = DefaultAuditEvents
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func isEndpoint(endpoint string) bool {
	if strings.Contains(endpoint, "://") {
		parsed, err := url.Parse(endpoint)
		if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.User != nil || strings.Trim(parsed.Path, "/") != "" {
			return false
		}
		endpoint = parsed.Host
	}
	host, port, err := net.SplitHostPort(endpoint)
	return err == nil && host != "" && port != ""
}

// connect makes a client. It does not wait for a connection.
func (o Options) connect() (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, TLS: o.TLS, Username: o.Username, Password: o.Password,
		DialTimeout: o.DialTimeout,
		// A server that stops without closing its connections is left behind
		// after eight seconds; servers do not allow asking more often.
		DialKeepAliveTime: 6 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, failure(err)
	}
	return client, nil
}

// Store is a [store.Store] in etcd.
type Store struct {
	*records.Store
	engine *engine
}

var _ store.Store = (*Store)(nil)

// Open reads all that is there, and registers this replica.
func Open(ctx context.Context, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	e, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("opening store in etcd: %w", err)
	}
	return &Store{Store: records.New(e, records.Options{ExpiredAtOnce: store.MaxBatch}), engine: e}, nil
}

func open(ctx context.Context, o Options) (_ *engine, err error) {
	client, err := o.connect()
	if err != nil {
		return nil, err
	}
	e := newEngine(client, o)
	defer func() {
		if err != nil {
			e.stop()
			_ = client.Close()
			e.work.Wait()
		}
	}()
	first, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	if err := e.claim(first); err != nil {
		return nil, err
	}
	if err := e.list(ctx); err != nil {
		return nil, err
	}
	e.work.Go(e.follow)
	// Not before all is read, which takes a while: others would wait for it.
	second, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	if err := e.register(second); err != nil {
		return nil, err
	}
	e.renewed()
	e.work.Go(e.stayRegistered)
	e.work.Go(e.report)
	return e, nil
}

// newName returns a name for this process, that no other has.
func newName() (name string, by token) {
	_, _ = rand.Read(by[:8])
	return hex.EncodeToString(by[:8]), by
}

// Close ends the registration, so that nobody waits for this replica.
func (s *Store) Close() error { return s.Store.Close() }

// Fresh returns nil while this replica has every change that takes something
// away and was acknowledged, and otherwise an error that wraps
// [store.ErrUnavailable]. It takes no time worth mentioning.
func (s *Store) Fresh() error { return s.engine.fresh() }

// Follow lets fn be told of each change of keys, by this replica or another,
// once it can be read here, and before it is acknowledged. fn must not change
// anything here, nor wait. Follow is called before the store is used.
func (s *Store) Follow(fn func(store.KeyChange)) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.engine.followers = append(s.engine.followers, fn)
}
