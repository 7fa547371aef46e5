package redis

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// Options say which servers to use and how. Addresses must be set.
type Options struct {
	// Addresses are host:port of the server, of some nodes of the Cluster, or
	// of the Sentinels.
	Addresses []string
	// Cluster says that the addresses are those of a Redis Cluster.
	Cluster bool
	// Master is the name under which Sentinel knows the server. Empty: the
	// addresses are no Sentinels.
	Master string
	// Username and Password are for the servers, those beginning with Sentinel
	// for the Sentinels. Empty: none.
	Username, Password                 string
	SentinelUsername, SentinelPassword string
	// Database is the number of the database. A Cluster only has 0.
	Database int
	// TLS encrypts connections, those to Sentinels too. Nil: they are not.
	TLS *tls.Config
	// Prefix begins the name of everything that is kept. Empty: "tokenkit".
	Prefix string
	// Replicas is how many of the server's replicas must have a grant before
	// it is used. Zero: none, the server has it on its disk.
	Replicas int
	// AllowLoss accepts a server that may forget grants when it fails. Keys may
	// then pass more calls than their limit.
	AllowLoss bool
	// Logger hears of settings that are doubtful. Nil: [slog.Default].
	Logger *slog.Logger
}

// LogValue shows no password.
func (o Options) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("addresses", o.Addresses), slog.Bool("cluster", o.Cluster), slog.String("master", o.Master),
		slog.Bool("tls", o.TLS != nil), slog.Int("replicas", o.Replicas))
}

// Client is a connection to the servers. It implements [lease.Engine] and is
// safe for concurrent use.
type Client struct {
	rueidis  rueidis.Client
	prefix   string
	replicas int64
	failover bool // servers are replaced by others
	allow    bool
	logger   *slog.Logger
	account  script

	mu      sync.Mutex // held while a server is looked at
	checked sync.Map   // runs of servers that were looked at and accepted
}

// Open connects to the servers and looks at their settings. A server that does
// not answer, or whose settings do not do, is an error that says which.
func Open(ctx context.Context, o Options) (*Client, error) {
	if len(o.Addresses) == 0 {
		return nil, errors.New("redis: addresses: expected at least one host:port")
	}
	for _, address := range o.Addresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("redis: addresses: expected host:port, got %q", address)
		}
	}
	if o.Cluster && o.Master != "" {
		return nil, errors.New("redis: expected Cluster or the name of a Sentinel's master, not both")
	}
	if o.Replicas < 0 || o.Database < 0 || o.Cluster && o.Database > 0 {
		return nil, errors.New("redis: expected Replicas and Database of at least 0, and Database 0 of a Cluster")
	}
	c := &Client{
		prefix: cmp.Or(o.Prefix, "tokenkit"), replicas: int64(o.Replicas), failover: o.Cluster || o.Master != "",
		allow: o.AllowLoss, logger: o.Logger, account: newScript(accountSource),
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	option := rueidis.ClientOption{
		InitAddress: o.Addresses, Username: o.Username, Password: o.Password, SelectDB: o.Database, TLSConfig: o.TLS,
		DisableCache: true, DisableRetry: true, ForceSingleClient: !o.Cluster && o.Master == "",
		ClientName: "tokenkit-authz", ConnWriteTimeout: 3 * time.Second, BlockingPoolSize: 64,
		Dialer: net.Dialer{Timeout: 2 * time.Second, KeepAlive: time.Second},
	}
	if o.Master != "" {
		option.Sentinel = rueidis.SentinelOption{
			MasterSet: o.Master, Username: o.SentinelUsername, Password: o.SentinelPassword, TLSConfig: o.TLS,
			Dialer: option.Dialer, ClientName: option.ClientName,
		}
	}
	var err error
	if c.rueidis, err = rueidis.NewClient(option); err != nil {
		return nil, fmt.Errorf("connecting to redis: %w", err)
	}
	if err := c.check(ctx); err != nil {
		c.rueidis.Close()
		return nil, err
	}
	return c, nil
}

// Close ends all connections. What is under way fails.
func (c *Client) Close() { c.rueidis.Close() }
