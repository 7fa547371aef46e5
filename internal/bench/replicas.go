package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// shared measures what it costs to share: a service that keeps all by itself
// beside ones that count limits in a real Redis, through Envoy.
func (l *lab) shared() error {
	keys, err := keyStoreOf(l.ctx, l.program, 1000, true)
	if err != nil {
		return err
	}
	redis, err := l.redis()
	if err != nil {
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
	var lines []*line
	for i, c := range cases {
		lines = append(lines, &line{name: c.name, envoy: front.PID(), server: servers[i].pid(), job: load.Job{
			Address: front.addresses[routes[i].name], Secrets: keys.secrets, Pick: load.Zipf,
		}})
	}
	if err := l.inRounds(lines...); err != nil {
		return err
	}
	l.table(lines...)
	for _, other := range lines[1:] {
		l.print("%s, to %s: server CPU %v, requests/s %v", other.name, lines[0].name, ratio(serverCPU, other, lines[0]), ratio(perSecond, other, lines[0]))
	}
	return nil
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
