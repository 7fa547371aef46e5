// Package etcdtest runs etcd clusters for tests: real servers, each in a
// process of its own, which a test may kill, stop and start again.
//
//	func TestMain(m *testing.M) {
//		etcdtest.Main() // returns unless this process is to be a member
//		os.Exit(m.Run())
//	}
//
//	cluster := etcdtest.Start(t, 3)
//	client := cluster.Client(t)
//	cluster.Members[cluster.Leader(t)].Kill(t)
package etcdtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"

	"github.com/tokenkithq/authz/internal/real"
	"github.com/tokenkithq/authz/internal/tunnel"
)

// The environment of a process that is a member.
const (
	nameVariable    = "TOKENKIT_ETCD_NAME"
	folderVariable  = "TOKENKIT_ETCD_FOLDER"
	clientVariable  = "TOKENKIT_ETCD_CLIENT"
	peerVariable    = "TOKENKIT_ETCD_PEER"
	clusterVariable = "TOKENKIT_ETCD_CLUSTER"
	caVariable      = "TOKENKIT_ETCD_CA"
	certVariable    = "TOKENKIT_ETCD_CERT"
	keyVariable     = "TOKENKIT_ETCD_KEY"
)

// Main runs a member and ends the process, where the environment asks for it.
// A test binary calls it first in TestMain.
func Main() {
	if os.Getenv(nameVariable) == "" {
		return
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve() error {
	client, err := url.Parse(os.Getenv(clientVariable))
	if err != nil {
		return err
	}
	peer, err := url.Parse(os.Getenv(peerVariable))
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Name = os.Getenv(nameVariable)
	config.Dir = os.Getenv(folderVariable)
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = os.Getenv(clusterVariable)
	config.TickMs, config.ElectionMs = 50, 500
	if ca := os.Getenv(caVariable); ca != "" {
		files := &config.ClientTLSInfo
		files.TrustedCAFile, files.CertFile, files.KeyFile, files.ClientCertAuth = ca, os.Getenv(certVariable), os.Getenv(keyVariable), true
	}
	config.BcryptCost = uint(bcrypt.MinCost) // it serves nobody else meanwhile
	logs := zap.NewProductionConfig()
	logs.Level.SetLevel(zap.WarnLevel)
	logger, err := logs.Build()
	if err != nil {
		return err
	}
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	go func() { // ends when the test does, however that is
		_, _ = os.Stdin.Read(make([]byte, 1))
		ended <- syscall.SIGTERM
	}()
	select {
	case <-ended:
		server.Close()
		return nil
	case err := <-server.Err():
		return err
	}
}

// Cluster is a running cluster. Its members listen on loopback.
type Cluster struct {
	Members []*Member
	tls     *tls.Config // of its clients; nil: not encrypted
}

// Member is one server of a [Cluster].
type Member struct {
	real.Process
	Endpoint string // URL for clients
	env      []string
	log      *os.File
}

// TLS are PEM files: an authority, and a certificate for both sides with its
// key.
type TLS struct{ CA, Certificate, Key string }

// Start runs a cluster with this many members until the test ends, and waits
// until it answers.
func Start(t testing.TB, members int) *Cluster {
	t.Helper()
	return start(t, members, "http", &Cluster{})
}

// StartTLS runs a cluster that takes only clients with a certificate by an
// authority.
func StartTLS(t testing.TB, members int, files TLS) *Cluster {
	t.Helper()
	authority, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(authority)
	return start(t, members, "https", &Cluster{tls: config}, caVariable+"="+files.CA, certVariable+"="+files.Certificate, keyVariable+"="+files.Key)
}

func start(t testing.TB, members int, scheme string, c *Cluster, env ...string) *Cluster {
	t.Helper()
	// Each member keeps its address when it is started again.
	clients, peers := addresses(t, members), addresses(t, members)
	initial := make([]string, members)
	for i := range initial {
		initial[i] = fmt.Sprintf("m%d=http://%s", i, peers[i])
	}
	folder := t.TempDir()
	for i := range members {
		name := fmt.Sprintf("m%d", i)
		log, err := os.Create(filepath.Join(folder, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		m := &Member{Endpoint: scheme + "://" + clients[i], log: log, env: slices.Concat(os.Environ(), env, []string{
			nameVariable + "=" + name, folderVariable + "=" + filepath.Join(folder, name), clientVariable + "=" + scheme + "://" + clients[i],
			peerVariable + "=http://" + peers[i], clusterVariable + "=" + strings.Join(initial, ","),
		})}
		c.Members = append(c.Members, m)
		t.Cleanup(func() {
			m.End()
			_ = log.Close()
			if t.Failed() {
				if text, err := os.ReadFile(log.Name()); err == nil {
					t.Logf("etcd member %s: %s", name, tail(text))
				}
			}
		})
		m.Start(t)
	}
	c.Wait(t)
	return c
}

func tail(text []byte) []byte {
	const most = 4000
	return text[max(0, len(text)-most):]
}

// addresses returns free ones on loopback.
func addresses(t testing.TB, n int) []string {
	t.Helper()
	all := make([]string, n)
	for i := range all {
		listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		all[i] = listener.Addr().String()
	}
	return all
}

// Endpoints returns the URLs of all members, for clients.
func (c *Cluster) Endpoints() []string {
	all := make([]string, len(c.Members))
	for i, m := range c.Members {
		all[i] = m.Endpoint
	}
	return all
}

// Tunnels opens a tunnel to each member, and returns with them the URLs by
// which clients connect through them.
func (c *Cluster) Tunnels(t testing.TB) (tunnel.Tunnels, []string) {
	t.Helper()
	var all tunnel.Tunnels
	var endpoints []string
	for _, m := range c.Members {
		scheme, target, _ := strings.Cut(m.Endpoint, "://")
		all = append(all, tunnel.Open(t, target))
		endpoints = append(endpoints, scheme+"://"+all[len(all)-1].Address)
	}
	return all, endpoints
}

// Client returns a client of the cluster, which is closed with the test.
func (c *Cluster) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), TLS: c.tls, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// Wait waits until the cluster answers a read that all members agree on.
func (c *Cluster) Wait(t testing.TB) {
	t.Helper()
	client := c.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for {
		try, end := context.WithTimeout(ctx, 2*time.Second)
		_, err := client.Get(try, "any")
		end()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("etcd does not answer: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Leader returns the index of the member that leads.
func (c *Cluster) Leader(t testing.TB) int {
	t.Helper()
	client := c.Client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		for i, m := range c.Members {
			try, end := context.WithTimeout(ctx, 2*time.Second)
			status, err := client.Status(try, m.Endpoint)
			end()
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				return i
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("etcd has no leader")
	return -1
}

// Start runs a member that does not run.
func (m *Member) Start(t testing.TB) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self) //nolint:noctx // it ends with the test
	cmd.Env, cmd.Stdout, cmd.Stderr = m.env, m.log, m.log
	if _, err := cmd.StdinPipe(); err != nil { // it ends when this process does
		t.Fatal(err)
	}
	m.Run(t, cmd)
}
