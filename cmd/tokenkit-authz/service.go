package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/admin/dashboard"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/envoy/doctor"
	"github.com/tokenkithq/authz/extauthz"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/block/shared"
	"github.com/tokenkithq/authz/extauthz/limit"
	limitetcd "github.com/tokenkithq/authz/extauthz/limit/etcd"
	"github.com/tokenkithq/authz/extauthz/limit/lease"
	"github.com/tokenkithq/authz/extauthz/limit/redis"
	"github.com/tokenkithq/authz/extauthz/statefile"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"github.com/tokenkithq/authz/store/etcd"
	"github.com/tokenkithq/authz/telemetry"
	"github.com/tokenkithq/authz/usage"
	"github.com/tokenkithq/authz/usage/usagefile"
)

// streamWorkers is how many goroutines for each core wait for Checks: one that
// waited has a stack that is large enough already. It should be as many Checks
// as are under way at a time; those beyond get new goroutines.
const streamWorkers = 64

// service is everything that serve runs, over one data folder.
type service struct {
	settings    *settings
	logger      *slog.Logger
	keys        store.Store
	hasher      apikey.Hasher
	cache       *store.Cache
	uses        *store.LastUsed
	state       *statefile.File
	limiter     limiter
	table       *block.Table
	usageFile   *usagefile.File // nil where usage is off
	usage       *usage.Recorder // likewise
	authorizer  *extauthz.Authorizer
	admin       *admin.Admin
	watch       watch
	health      *health.Server
	grpc        *grpc.Server
	transport   transport
	connections *connections
	reloaded    atomic.Pointer[settings] // nil: they never were

	file         *bolt.Store    // nil where replicas share the keys
	etcd         *etcd.Store    // nil where they do not
	localLimits  *limit.Limiter // nil where replicas share the limits
	sharedLimits *lease.Limiter // nil where they do not
	redis        *redis.Client  // likewise
	sharedBlocks *shared.Table  // likewise; it stands before table

	limitsEtcd   *limitetcd.Engine // nil where limits are not in etcd
	limitsClient *clientv3.Client  // likewise
}

// openService opens the data folder and builds all parts over it. The caller
// must close the service.
func openService(ctx context.Context, s *settings, logger *slog.Logger) (_ *service, err error) {
	encryption, err := s.transport.open(logger)
	if err != nil {
		return nil, err
	}
	if err := makeDataFolder(s.data); err != nil {
		return nil, err
	}
	// What was begun is ended: a limiter that is opened by half would look like
	// one that crashed. A ctx that is done stops the service right afterwards.
	ctx = context.WithoutCancel(ctx)
	v := &service{settings: s, logger: logger, transport: encryption, connections: newConnections(logger)}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close(ctx))
		}
	}()
	if err := v.openKeys(ctx); err != nil {
		return nil, err
	}
	if err := v.openHasher(ctx); err != nil {
		return nil, err
	}
	v.uses = store.NewLastUsed(v.cache, store.LastUsedOptions{Report: func(err error) {
		logger.Warn("saving when keys were last used failed; it is tried again", "error", err)
	}})
	if v.state, err = statefile.Open(ctx, s.stateFile(), statefile.Options{Committed: s.committed()}); err != nil {
		return nil, err
	}
	if err := v.openLimits(ctx); err != nil {
		return nil, err
	}
	never, err := s.neverBlocked()
	if err != nil {
		return nil, err
	}
	if v.table, err = block.New(ctx, block.Options{Journal: v.state.Blocks(), Never: never}); err != nil {
		return nil, err
	}
	if err := v.shareBlocks(); err != nil {
		return nil, err
	}
	if err := v.openUsage(ctx); err != nil {
		return nil, err
	}
	if err := v.openWatch(ctx); err != nil {
		return nil, err
	}
	if err := v.buildServers(); err != nil {
		return nil, err
	}
	return v, nil
}

// makeDataFolder creates the folder for its owner only, or makes sure that it
// is so.
func makeDataFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	findings, err := examineData(path)
	if err != nil {
		return err
	}
	for _, f := range findings {
		if f.Severity == doctor.Danger {
			return fmt.Errorf("data folder: %s: %s; to fix it: %s", f.Where, f.What, f.Fix)
		}
	}
	return nil
}

func (v *service) buildServers() error {
	uncounted, err := v.settings.uncounted()
	if err != nil {
		return err
	}
	options := extauthz.AuthorizerOptions{
		Keys: v.cache, Hasher: v.hasher, Limiter: v.limiter, Blocker: v.blocker(), Uses: v.uses,
		Strict: v.settings.strict, Uncounted: uncounted, Logger: v.logger,
		LoggedPerSecond: v.settings.loggedPerSecond(),
	}
	if v.usage != nil {
		options.Recorder = v.usage
	}
	if v.authorizer, err = extauthz.NewAuthorizer(options); err != nil {
		return err
	}
	serverOptions, err := v.settings.serverOptions(v.logger)
	if err != nil {
		return err
	}
	serverOptions.Observer = telemetry.Join(v.watch.observers...)
	server, err := extauthz.NewServer(v.authorizer, serverOptions)
	if err != nil {
		return err
	}
	v.grpc = extauthz.NewGRPCServer(server, append(v.grpcOptions(),
		grpc.NumStreamWorkers(uint32(streamWorkers*runtime.GOMAXPROCS(0))), //nolint:gosec // no machine has so many cores
	)...)
	v.health = health.NewServer()
	v.health.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(v.grpc, v.health)
	if v.settings.grpcReflection {
		reflection.Register(v.grpc)
	}

	board, err := dashboard.New(dashboard.Options{APIURL: v.settings.apiURL, Version: versionText()})
	if err != nil {
		return err
	}
	adminOptions := v.settings.adminOptions()
	adminOptions.Dashboard, adminOptions.Observer = board, v.watch.requests
	adminOptions.Store, adminOptions.Logger, adminOptions.Ready = forgetful{v.cache, v.usage}, v.logger, v.ready
	adminOptions.Blocks, adminOptions.Limits, adminOptions.Usage = blocks{v}, v, v.adminUsage()
	adminOptions.KeyHasher = v.hasher
	if v.file != nil {
		adminOptions.Backup = v.file
	}
	adminOptions.RequestTimeout = v.requestTimeout()
	if g := v.settings.governor; g != nil {
		adminOptions.Working = g.Need
	}
	if p := v.settings.hashes; p != nil {
		adminOptions.HashElsewhere = hashElsewhere(p)
	}
	v.admin, err = admin.New(adminOptions)
	return err
}

var errDraining = errors.New("the service is stopping")

// ready reports whether Checks are answered, as the gRPC health service does.
func (v *service) ready(ctx context.Context) error {
	response, err := v.health.Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		return errDraining
	}
	return nil
}

// close writes what is still in memory, the limits first, and releases the
// files. It may be called with parts missing. That ctx is done does not keep it
// from writing: limits that are not saved would look like a crash.
func (v *service) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.current().stopDeadline)
	defer cancel()
	var all []error
	step := func(what string, err error) {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", what, err))
		}
	}
	if v.limiter != nil {
		step("saving the limits", v.limiter.Close(ctx))
	}
	step("leaving the limits", v.disconnect())
	if v.table != nil {
		step("saving the blocks", v.table.Close(ctx))
	}
	if v.state != nil {
		step("closing the state file", v.state.Close())
	}
	if v.watch.decisions != nil {
		step("closing the decision log", v.watch.decisions.Close())
	}
	if v.usage != nil {
		step("saving usage", v.usage.Close(ctx))
	}
	if v.usageFile != nil {
		step("closing the usage file", v.usageFile.Close())
	}
	if v.uses != nil {
		step("saving when keys were last used", v.uses.Flush(ctx))
	}
	if v.keys != nil {
		step("closing the key store", v.keys.Close())
	}
	if v.watch.traces != nil { // last, since a collector may be slow
		v.closeTraces(ctx)
	}
	return errors.Join(all...)
}
