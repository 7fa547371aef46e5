//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// shared measures what it costs to share: a service that keeps all by itself
// beside ones that count limits in a real Redis and keep keys in a real etcd,
// through Envoy and without it.
func (l *lab) shared() error {
	keys, err := keyStoreOf(l.ctx, l.program, 1000, true)
	if err != nil {
		return err
	}
	redis, err := l.redis()
	if err != nil {
		return err
	}
	etcd, err := l.itself(0, roleEtcd, "-folder", filepath.Join(l.dir, "etcd"))
	if err != nil {
		return err
	}
	if err := l.moveTo(etcd.address, keys); err != nil {
		return err
	}
	var routes []route
	var servers []*child
	cases := []struct {
		name string
		args []string
	}{
		{"all by itself", nil},
		{"limits in Redis", []string{"--limits", "redis://" + redis}},
		{"keys in etcd, limits in Redis", []string{"--store", "etcd://" + etcd.address, "--limits", "redis://" + redis, "--limits-prefix", "other"}},
	}
	for i, c := range cases {
		ours, err := l.serve(keys, 0, c.args...)
		if err != nil {
			return err
		}
		servers, routes = append(servers, ours), append(routes, route{name: fmt.Sprint("case-", i), authz: ours.address})
	}
	front, err := l.startEnvoy(routes...)
	if err != nil {
		return err
	}
	var envoys, straight []*line
	for i, c := range cases {
		job := load.Job{Address: front.addresses[routes[i].name], Secrets: keys.secrets, Pick: load.Zipf}
		envoys = append(envoys, &line{name: c.name, envoy: front.PID(), server: servers[i].pid(), job: job})
		job.Address, job.GRPC = servers[i].address, true
		straight = append(straight, &line{name: c.name + ", without Envoy", server: servers[i].pid(), job: job})
	}
	// A key's first calls ask for its first leases. They are a part of what is
	// measured where they are few beside the others, as they are in use.
	for _, at := range straight {
		at.job.Duration = warmUp
		if err := l.once(at, 0); err != nil {
			return err
		}
		at.job.Duration, at.results = 0, nil
	}
	if err := l.inRounds(slices.Concat(envoys, straight)...); err != nil {
		return err
	}
	l.table(slices.Concat(envoys, straight)...)
	for _, lines := range [][]*line{envoys, straight} {
		for _, other := range lines[1:] {
			l.print("%s, to %s: server CPU %v, requests/s %v", other.name, lines[0].name, ratio(serverCPU, other, lines[0]), ratio(perSecond, other, lines[0]))
		}
	}
	return nil
}

// warmUp is for how long each case is called before anything is measured.
const warmUp = 3 * time.Second

// moveTo puts a copy of a store into etcd.
func (l *lab) moveTo(etcd string, keys *keyStore) error {
	data, err := os.MkdirTemp(l.dir, "data-")
	if err != nil {
		return err
	}
	if err := keys.copyTo(data); err != nil {
		return err
	}
	if said, err := exec.CommandContext(l.ctx, l.program, "store", "migrate", "--data", data, "--to", "etcd://"+etcd).CombinedOutput(); err != nil {
		return fmt.Errorf("moving keys to etcd: %w: %s", err, said)
	}
	return nil
}

// serveEtcd runs a cluster of one.
func serveEtcd(_ io.Reader, out io.Writer, args []string) error {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	folder := flags.String("folder", "", "where it keeps what it has")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var urls [2][]url.URL
	for i := range urls {
		address, err := freeAddress()
		if err != nil {
			return err
		}
		urls[i] = []url.URL{{Scheme: "http", Host: address}}
	}
	config := embed.NewConfig()
	config.Dir, config.LogLevel = *folder, "error"
	config.ListenClientUrls, config.AdvertiseClientUrls = urls[0], urls[0]
	config.ListenPeerUrls, config.AdvertisePeerUrls = urls[1], urls[1]
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	<-server.Server.ReadyNotify()
	fmt.Fprintln(out, "address", urls[0][0].Host)
	return <-server.Err()
}

var redisReady = regexp.MustCompile(`(Ready to accept connections)`)

// redis runs a Redis that keeps what it was told, and returns its address.
func (l *lab) redis() (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", fmt.Errorf("no Redis found: %w", err)
	}
	folder, err := os.MkdirTemp(l.dir, "redis-")
	if err != nil {
		return "", err
	}
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	_, port, _ := strings.Cut(address, ":")
	_, err = l.launch(0, redisReady, path, "--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", "", "--appendonly", "yes", "--appendfsync", "always")
	return address, err
}

// freeAddress returns one on loopback that nobody listens on yet.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing to wait for
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
