package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

func TestParseEngine(t *testing.T) {
	for _, c := range []struct {
		text, scheme string
		hosts        []string
		path         string
		err          string
	}{
		{text: "file", scheme: "file"},
		{text: "etcd://127.0.0.1:2379", scheme: "etcd", hosts: []string{"127.0.0.1:2379"}},
		{text: "etcd+tls://a:1,b:2,[::1]:3/keys/of/ours/", scheme: "etcd+tls", hosts: []string{"a:1", "b:2", "[::1]:3"}, path: "keys/of/ours"},
		{text: "redis://a", err: "address 1"},
		{text: "redis://a:1,", err: "address 2"},
		{text: "redis://:1", err: "address 1"},
		{text: "redis://user:swordfish@a:1", err: "user or password"},
		{text: "redis://a:1?db=1", err: "nothing else"},
	} {
		e, err := parseEngine(c.text)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("%s: %v, expected an error with %q that repeats no password", c.text, err, c.err)
			}
			continue
		}
		if err != nil || e.scheme != c.scheme || !slices.Equal(e.hosts, c.hosts) || e.path != c.path || e.remote() != (len(c.hosts) > 0) {
			t.Errorf("%s: %+v, %v", c.text, e, err)
		}
	}
}

func TestCheckOverTLS(t *testing.T) {
	authority := tlsfilestest.NewAuthority(t)
	service, client := newTLSFolder(t), newTLSFolder(t)
	service.publish(t, authority, "spiffe://cluster.local/ns/tokenkit/sa/authz", authority.PEM)
	client.publish(t, authority, gatewayID, authority.PEM)
	data := filepath.Join(t.TempDir(), "data")
	command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
	key := createKeyOffline(t, data, "secure", "--owner", testUser).Key
	s := startServer(t, data, service.flags("grpc")...)

	for _, c := range []struct {
		name  string
		flags []string
		fails bool
	}{
		{name: "both certificates", flags: []string{"--tls-ca", client.ca, "--tls-cert", client.cert, "--tls-cert-key", client.key}},
		{name: "none of its own", flags: []string{"--tls-ca", client.ca}, fails: true},
		{name: "the system's authorities", flags: []string{"--tls", "--tls-cert", client.cert, "--tls-cert-key", client.key}, fails: true},
		{name: "no TLS", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(binary(t), append([]string{"check", "--server", s.grpc}, c.flags...)...)
			cmd.Stdin = strings.NewReader(key + "\n")
			out, err := cmd.CombinedOutput()
			if failed := err != nil; failed != c.fails || !failed && !strings.Contains(string(out), "allowed") || strings.Contains(string(out), key) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
