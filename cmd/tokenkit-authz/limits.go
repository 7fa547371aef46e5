package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz"
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/extauthz/limit"
	limitetcd "github.com/tokenkithq/authz/extauthz/limit/etcd"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
)

// limitSettings are about where hourly limits are counted.
type limitSettings struct {
	where                              string
	mode                               string // of local ones
	access                             engineAccess
	sentinelUser, sentinelPasswordFile string
	prefix                             string
	replicas                           int
	allowLoss                          bool
	away                               string
	shares                             int
}

func (l *limitSettings) flags(f *pflag.FlagSet) {
	f.StringVar(&l.where, "limits", "local", "where hourly limits are counted: local, or for several replicas redis://HOST:PORT/DATABASE, redis+sentinel://HOST:PORT,.../NAME, redis+cluster://HOST:PORT,... or etcd://HOST:PORT,.../PREFIX; over TLS with rediss in place of redis, or etcd+tls")
	f.StringVar(&l.mode, "limit-mode", "exact", "of local limits: exact, or fast: never waits for the disk, may forget one second of calls in a crash")
	l.access.flags(f, "limits", "the server of --limits")
	f.StringVar(&l.sentinelUser, "limits-sentinel-user", "", "user name at the Sentinels")
	f.StringVar(&l.sentinelPasswordFile, "limits-sentinel-password-file", "", "file with the password at the Sentinels")
	f.StringVar(&l.prefix, "limits-prefix", "tokenkit", "what the names of all that is kept at the server of --limits begin with")
	f.IntVar(&l.replicas, "limits-replicas", 0, "how many of the server's replicas must have what it granted before that is used; 0: none, the server's own disk must")
	f.BoolVar(&l.allowLoss, "limits-allow-loss", false, "accept a server that may forget grants when it fails, after which keys may pass more calls than their limit")
	f.StringVar(&l.away, "limits-away", "closed", "what to do with calls that cannot be decided while the server of --limits is away: closed denies them, open lets them pass")
	f.IntVar(&l.shares, "replicas", 0, "among how many replicas of this service limits are shared out; 0: as many as the server of --limits hears of")
}

// limiter is what keeps the limits.
type limiter interface {
	extauthz.Limiter
	Run(context.Context) error
	Close(context.Context) error
}

var (
	_ limiter = (*limit.Limiter)(nil)
	_ limiter = (*lease.Limiter)(nil)
)

func (l *limitSettings) localMode() (limit.Mode, error) {
	switch l.mode {
	case "exact":
		return limit.Exact, nil
	case "fast":
		return limit.Fast, nil
	}
	return 0, fmt.Errorf("limit_mode %q: expected exact or fast", l.mode)
}

func (l *limitSettings) awayMode() (lease.Mode, error) {
	switch l.away {
	case "closed":
		return lease.Closed, nil
	case "open":
		return lease.Open, nil
	}
	return 0, fmt.Errorf("limits_away %q: expected closed or open", l.away)
}

// engine returns where limits are counted.
func (l *limitSettings) engine() (engine, error) {
	e, err := parseEngine(l.where)
	if err != nil {
		return e, fmt.Errorf("limits: %w", err)
	}
	switch scheme := strings.Replace(e.scheme, "rediss", "redis", 1); {
	case e.scheme == "local" && !e.remote(), scheme == "redis" && e.remote(), scheme == "redis+cluster" && e.remote(), e.isEtcd():
		return e, nil
	case scheme == "redis+sentinel" && e.remote():
		if e.path == "" {
			return e, errors.New("limits: expected the name that Sentinel knows the server by, as in redis+sentinel://HOST:PORT/NAME")
		}
		return e, nil
	}
	return e, fmt.Errorf("limits: scheme %q: expected local, or an address with redis, redis+sentinel, redis+cluster, one of them with rediss, etcd or etcd+tls", e.scheme)
}

// check reports the first setting that is wrong without connecting to anything.
func (l *limitSettings) check() error {
	e, err := l.engine()
	if err != nil {
		return err
	}
	if _, err := l.localMode(); err != nil {
		return err
	}
	if _, err := l.awayMode(); err != nil {
		return err
	}
	for name, n := range map[string]int{"limits_replicas": l.replicas, "replicas": l.shares} {
		if n < 0 {
			return fmt.Errorf("%s %d: expected 0 or more", name, n)
		}
	}
	switch {
	case e.isEtcd():
		_, err = l.etcdConfig(e)
	case e.remote():
		_, err = l.redisOptions(e)
	}
	return err
}

func (l *limitSettings) redisOptions(e engine) (o redis.Options, err error) {
	encrypted := strings.HasPrefix(e.scheme, "rediss")
	o = redis.Options{
		Addresses: e.hosts, Username: l.access.user, SentinelUsername: l.sentinelUser,
		Prefix: l.prefix, Replicas: l.replicas, AllowLoss: l.allowLoss,
	}
	if o.TLS, err = l.access.config(encrypted); err != nil {
		return o, err
	}
	if o.Password, err = l.access.password(); err != nil {
		return o, err
	}
	sentinel := engineAccess{clientTLS: clientTLS{prefix: "limits_sentinel"}, passwordFile: l.sentinelPasswordFile}
	if o.SentinelPassword, err = sentinel.password(); err != nil {
		return o, err
	}
	_, kind, _ := strings.Cut(e.scheme, "+")
	switch kind {
	case "sentinel":
		o.Master = e.path
	case "cluster":
		o.Cluster = true
		if e.path != "" {
			return o, fmt.Errorf("limits: path %q: expected none, a Cluster has one database", e.path)
		}
	default:
		if e.path != "" {
			if o.Database, err = strconv.Atoi(e.path); err != nil || o.Database < 0 {
				return o, fmt.Errorf("limits: path %q: expected the number of a database", e.path)
			}
		}
	}
	return o, nil
}

func (l *limitSettings) etcdConfig(e engine) (c clientv3.Config, err error) {
	encrypted := e.scheme == "etcd+tls"
	c = clientv3.Config{
		Endpoints: e.urls(encrypted), Username: l.access.user, DialTimeout: engineTimeout,
		// A server that stops without closing its connections is left behind
		// after eight seconds; servers do not allow asking more often.
		DialKeepAliveTime: 6 * time.Second, DialKeepAliveTimeout: 2 * time.Second, Logger: zap.NewNop(),
	}
	if c.TLS, err = l.access.config(encrypted); err != nil {
		return c, err
	}
	c.Password, err = l.access.password()
	return c, err
}

// connect returns what counts shared limits.
func (v *service) connect(ctx context.Context, e engine) (lease.Engine, error) {
	l := &v.settings.limits
	if e.isEtcd() {
		config, err := l.etcdConfig(e)
		if err != nil {
			return nil, err
		}
		if err := l.access.probe(ctx, e.hosts, config.TLS); err != nil {
			return nil, err
		}
		if v.limitsClient, err = clientv3.New(config); err != nil {
			return nil, fmt.Errorf("limits: %w", err)
		}
		prefix := cmp.Or(e.path, l.prefix) + "/"
		if v.limitsEtcd, err = limitetcd.Open(ctx, v.limitsClient, limitetcd.Options{Prefix: prefix}); err != nil {
			return nil, fmt.Errorf("limits: %w", err)
		}
		return v.limitsEtcd, nil
	}
	options, err := l.redisOptions(e)
	if err != nil {
		return nil, err
	}
	if err := l.access.probe(ctx, e.hosts, options.TLS); err != nil {
		return nil, err
	}
	options.Logger = v.logger
	if v.redis, err = redis.Open(ctx, options); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	return v.redis, nil
}

// disconnect releases what counted shared limits.
func (v *service) disconnect() error {
	if v.sharedBlocks != nil {
		v.sharedBlocks.Close()
	}
	if v.redis != nil {
		v.redis.Close()
	}
	if v.limitsEtcd != nil {
		v.limitsEtcd.Close()
	}
	if v.limitsClient != nil {
		return v.limitsClient.Close()
	}
	return nil
}

// openLimits makes the limiter, over the state file or what replicas share.
func (v *service) openLimits(ctx context.Context) error {
	l := &v.settings.limits
	e, err := l.engine()
	if err != nil {
		return err
	}
	if !e.remote() {
		mode, err := l.localMode()
		if err != nil {
			return err
		}
		local, err := limit.New(ctx, limit.Options{Journal: v.state.Limits(), Mode: mode})
		if err != nil {
			return err
		}
		v.limiter, v.localLimits = local, local
		return nil
	}
	away, err := l.awayMode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	shared, err := v.connect(ctx, e)
	if err != nil {
		return err
	}
	if v.sharedLimits, err = lease.New(lease.Options{Engine: shared, Mode: away, Replicas: l.shares, Logger: v.logger}); err != nil {
		return err
	}
	v.limiter = v.sharedLimits
	return nil
}

// shareBlocks puts what replicas share before the table, where they do.
func (v *service) shareBlocks() (err error) {
	var backend shared.Backend
	switch {
	case v.redis != nil:
		backend = v.redis.Blocks()
	case v.limitsEtcd != nil:
		backend = v.limitsEtcd.Blocks(limitetcd.BlockOptions{})
	default:
		return nil
	}
	v.sharedBlocks, err = shared.New(shared.Options{Table: v.table, Backend: backend, Logger: v.logger})
	return err
}

// blocker returns what Checks ask about addresses.
func (v *service) blocker() extauthz.Blocker {
	if v.sharedBlocks != nil {
		return v.sharedBlocks
	}
	return v.table
}

// runShared keeps what replicas share up to date, until ctx is done.
func (v *service) runShared(ctx context.Context) error {
	if v.sharedBlocks == nil {
		return nil
	}
	return v.sharedBlocks.Run(ctx)
}

// engineTimeout is how long the service waits for an engine when it starts.
const engineTimeout = 20 * time.Second

// LimitState shows the limiter to the admin API.
func (v *service) LimitState(key *apikey.Key, now time.Time) admin.LimitState {
	state := v.limiter.Peek(key, 1, now)
	if v.sharedLimits != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if asked, err := v.sharedLimits.Look(ctx, key, 1, now); err == nil {
			state = asked
		}
	}
	return admin.LimitState{Limit: state.Limit, Remaining: state.Remaining, Returns: state.Reset}
}
