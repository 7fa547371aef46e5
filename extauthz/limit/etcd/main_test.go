package etcd_test

import (
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tokenkithq/authz/extauthz/limit/etcd"
)

func TestMain(m *testing.M) {
	// A server that stopped leaves loggers and listeners' ends for a moment.
	goleak.VerifyTestMain(m)
}

// member is an etcd of one member inside the test.
type member struct {
	t      testing.TB
	folder string
	server *embed.Etcd
	urls   [2]url.URL
}

func newMember(t testing.TB) *member {
	t.Helper()
	m := &member{t: t, folder: t.TempDir()}
	for i, name := range []string{"client", "peer"} {
		m.urls[i] = url.URL{Scheme: "unix", Host: "", Path: filepath.Join(m.folder, name)}
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *member) stop() {
	if m.server != nil {
		m.server.Close()
		m.server = nil
	}
}

func (m *member) start() {
	m.t.Helper()
	c := embed.NewConfig()
	c.Dir, c.UnsafeNoFsync = filepath.Join(m.folder, "data"), true // no test pulls the plug
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{m.urls[0]}, []url.URL{m.urls[0]}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{m.urls[1]}, []url.URL{m.urls[1]}
	c.InitialCluster = c.Name + "=" + m.urls[1].String()
	var err error
	if m.server, err = embed.StartEtcd(c); err != nil {
		m.t.Fatal(err)
	}
	select {
	case <-m.server.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		m.t.Fatal("etcd was not ready within 30 s")
	}
}

// client returns a client, which is closed with the test.
func (m *member) client() *clientv3.Client {
	m.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{m.urls[0].String()}, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = client.Close() })
	return client
}

func (m *member) open(o etcd.Options) *etcd.Engine {
	m.t.Helper()
	engine, err := etcd.Open(m.t.Context(), m.client(), o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(engine.Close)
	return engine
}
