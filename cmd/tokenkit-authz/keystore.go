package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"github.com/tokenkithq/authz/store/etcd"
)

// storeSettings are about where keys and users are kept.
type storeSettings struct {
	where     string
	access    engineAccess
	staleness time.Duration
}

func (k *storeSettings) flags(f *pflag.FlagSet) {
	f.StringVar(&k.where, "store", "file", "where keys and users are kept: file, in the data folder, or for several replicas etcd://HOST:PORT,.../PREFIX, with etcd+tls over TLS")
	k.access.flags(f, "store", "the servers of --store")
	f.DurationVar(&k.staleness, "store-staleness", etcd.DefaultStaleness, "how long a replica that is cut off from --store goes on with what it knows, and how long a deletion waits for one, at most")
}

// engine returns where keys are kept.
func (k *storeSettings) engine() (engine, error) {
	e, err := parseEngine(k.where)
	switch {
	case err != nil:
		return e, fmt.Errorf("store: %w", err)
	case e.scheme == "file" && !e.remote(), e.isEtcd():
		return e, nil
	}
	return e, fmt.Errorf("store: scheme %q: expected file, or an address with etcd or etcd+tls", e.scheme)
}

// check reports the first setting that is wrong without connecting to anything.
func (k *storeSettings) check() error {
	e, err := k.engine()
	if err != nil || !e.remote() {
		return err
	}
	_, err = k.options(e)
	return err
}

func (k *storeSettings) options(e engine) (o etcd.Options, err error) {
	encrypted := e.scheme == "etcd+tls"
	o = etcd.Options{Endpoints: e.urls(encrypted), Username: k.access.user, Staleness: k.staleness, DialTimeout: engineTimeout}
	if e.path != "" {
		o.Prefix = "/" + e.path + "/"
	}
	if k.staleness < etcd.MinStaleness || k.staleness%time.Second != 0 {
		return o, fmt.Errorf("store_staleness %v: expected whole seconds, at least %v", k.staleness, etcd.MinStaleness)
	}
	if o.TLS, err = k.access.config(encrypted); err != nil {
		return o, err
	}
	o.Password, err = k.access.password()
	return o, err
}

// openKeys opens what keeps the keys, and caches it.
func (v *service) openKeys(ctx context.Context) error {
	s := v.settings
	e, err := s.store.engine()
	if err != nil {
		return err
	}
	options := store.CacheOptions{Keys: s.cacheKeys, Absent: s.cacheMissing}
	if !e.remote() {
		if v.file, err = bolt.Open(ctx, s.keysFile(), bolt.Options{Committed: s.committed()}); err != nil {
			return err
		}
		v.keys = v.file
		v.cache = store.NewCache(v.watch.reads(s, store.NewIndex(v.keys)), options)
		return nil
	}
	connection, err := s.store.options(e)
	if err != nil {
		return err
	}
	if err := s.store.access.probe(ctx, e.hosts, connection.TLS); err != nil {
		return err
	}
	connection.Logger = v.logger
	if v.etcd, err = etcd.Open(ctx, connection); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	v.keys = v.etcd
	index := store.NewIndex(v.keys)
	options.Fresh = v.etcd.Fresh
	v.cache = store.NewCache(v.watch.reads(s, index), options)
	v.etcd.Follow(index.Follow)
	v.etcd.Follow(v.cache.Follow)
	return nil
}

// requestTimeout is how long an admin call may take: a deletion waits for a
// replica that is cut off. Zero: as long as is usual.
func (v *service) requestTimeout() time.Duration {
	if v.etcd == nil {
		return 0
	}
	return v.settings.store.staleness + 5*time.Second
}

// freshEvery is how often it is looked whether this replica may answer.
const freshEvery = 500 * time.Millisecond

// runFresh says by the health service whether this replica may answer Checks,
// until ctx is done, so that Envoy sends them to others where it may not.
func (v *service) runFresh(ctx context.Context) error {
	if v.etcd == nil {
		return nil
	}
	tick := time.NewTicker(freshEvery)
	defer tick.Stop()
	was := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := v.etcd.Fresh()
		if is := err == nil; is != was {
			was = is
			status := healthpb.HealthCheckResponse_SERVING
			if err != nil {
				status = healthpb.HealthCheckResponse_NOT_SERVING
				v.logger.Error("this replica answers nothing until it reaches the store again", "error", err)
			} else {
				v.logger.Info("this replica answers again")
			}
			// What stops says so for good, whatever comes later.
			for _, name := range []string{"", authv3.Authorization_ServiceDesc.ServiceName} {
				v.health.SetServingStatus(name, status)
			}
		}
	}
}
