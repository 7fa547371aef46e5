package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/internal/redistest"
	"github.com/tokenkithq/authz/internal/tunnel"
)

// durably are the settings of a Redis that keeps what it granted.
var durably = []string{"--appendonly", "yes", "--appendfsync", "always"}

// shortStaleness is that of replicas in tests, which do not wait for half a
// minute.
const shortStaleness = 4 * time.Second

// cluster is replicas of the program that share an etcd and what counts limits,
// each reached through a tunnel of each replica's own.
type cluster struct {
	etcd      *etcdtest.Cluster
	redis     *redistest.Server   // or the master of Sentinels
	copies    *redistest.Server   // nil where there are no Sentinels
	sentinels redistest.Sentinels // which tell where the master is: to that there are no tunnels
	replicas  []*replica
}

// replica is one of them.
type replica struct {
	*server
	args    []string
	toEtcd  tunnel.Tunnels
	toRedis tunnel.Tunnels
	asked   *grpc.ClientConn
	operate *admin.OperatorClient
}

// limitsIn says what counts the limits of a cluster.
type limitsIn int

const (
	oneRedis limitsIn = iota
	sentinels
	sameEtcd
)

// startCluster starts this many servers of etcd and replicas.
func startCluster(t testing.TB, etcds, replicas int, limits limitsIn) *cluster {
	t.Helper()
	c := &cluster{etcd: etcdtest.Start(t, etcds)}
	switch limits {
	case oneRedis:
		c.redis = redistest.Start(t, durably...)
	case sentinels:
		c.redis = redistest.Start(t, "--appendonly", "yes")
		c.copies = c.redis.StartReplica(t, "--appendonly", "yes")
		c.sentinels = c.redis.StartSentinels(t, 3)
	case sameEtcd:
	}
	for i := range replicas {
		r := &replica{}
		var urls []string
		r.toEtcd, urls = c.etcd.Tunnels(t)
		members := "etcd://" + strings.ReplaceAll(strings.Join(urls, ","), "http://", "")
		r.args = []string{"--store", members + "/test", "--store-staleness", shortStaleness.String(), "--limits"}
		switch limits {
		case oneRedis:
			r.toRedis = tunnel.Tunnels{tunnel.Open(t, c.redis.Address)}
			r.args = append(r.args, "redis://"+r.toRedis[0].Address)
		case sentinels:
			r.args = append(r.args, "redis+sentinel://"+strings.Join(c.sentinels.Addresses(), ",")+"/"+redistest.Group, "--limits-replicas", "1")
		case sameEtcd:
			r.args = append(r.args, members+"/limits")
		}
		r.start(t, filepath.Join(t.TempDir(), fmt.Sprint("replica-", i)))
		c.replicas = append(c.replicas, r)
	}
	return c
}

// start runs a replica over a data folder, at the address that it had.
func (r *replica) start(t testing.TB, data string) {
	t.Helper()
	args := r.args
	if r.server != nil {
		args = append(args, "--grpc-listen", r.grpc, "--admin-listen", r.admin)
	}
	r.server = startServer(t, data, args...)
	if r.asked != nil {
		return
	}
	conn, err := grpc.NewClient(r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	r.asked, r.operate = conn, admin.NewOperatorClient(filepath.Join(data, "control.sock"))
	t.Cleanup(func() {
		r.operate.Close()
		_ = conn.Close()
	})
}

// kill ends a replica as a crash does.
func (r *replica) kill(t testing.TB) {
	t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.exited
	r.cmd = nil
}

func (r *replica) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// cut separates a replica from etcd and Redis.
func (r *replica) cut() {
	r.toRedis.Cut()
	r.toEtcd.Cut()
}

// heal connects it again.
func (r *replica) heal() {
	r.toRedis.Heal()
	r.toEtcd.Heal()
}

// check asks a replica about a call with a key, from an address of its own so
// that none is blocked. It reports whether the call may pass.
func (r *replica) check(ctx context.Context, key string, from uint32) (bool, error) {
	request := checkRequest{header: "api-key", method: "GET", path: "/", from: "x-client-ip", address: fmt.Sprintf("10.%d.%d.%d", byte(from>>16), byte(from>>8), byte(from))}
	message := request.message(key)
	message.Attributes.ContextExtensions = nil // it is meant
	response, err := authv3.NewAuthorizationClient(r.asked).Check(ctx, message)
	return response.GetOkResponse() != nil, err
}

// newKey makes a key by a replica's operator API.
func (r *replica) newKey(ctx context.Context, limit int64) (admin.CreatedKey, error) {
	key := admin.NewKey{Name: "of-the-cluster"}
	if limit > 0 {
		key.RateLimitPerHour = &limit
	}
	return r.operate.CreateKey(ctx, admin.OwnedKey{Owner: testUser, NewKey: key})
}

func (c *cluster) addUser(t testing.TB) {
	t.Helper()
	command(t, testPassword+"\n", "user", "add", testUser, "--data", c.replicas[0].data)
}
