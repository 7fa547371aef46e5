package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

const gatewayID = "spiffe://cluster.local/ns/edge/sa/gateway"

// tlsFolder has the links that Kubernetes makes for a secret of the type
// kubernetes.io/tls.
type tlsFolder struct {
	path, cert, key, ca string
	version             int
}

func newTLSFolder(t *testing.T) *tlsFolder {
	t.Helper()
	dir := t.TempDir()
	f := &tlsFolder{path: dir, cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), ca: filepath.Join(dir, "ca.crt")}
	for _, path := range []string{f.cert, f.key, f.ca} {
		if err := os.Symlink(filepath.Join("..data", filepath.Base(path)), path); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// publish exchanges what the folder holds for a new certificate by a, for an
// identity on 127.0.0.1, and returns its serial number.
func (f *tlsFolder) publish(t *testing.T, a *tlsfilestest.Authority, identity string, trusted []byte) *big.Int {
	t.Helper()
	id, err := url.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	issued := a.Issue(t, func(c *x509.Certificate) { c.URIs = []*url.URL{id} })
	f.version++
	version := filepath.Join(f.path, "..v"+big.NewInt(int64(f.version)).String())
	if err := os.Mkdir(version, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"tls.crt": issued.Certificate,
		"tls.key": issued.Key,
		"ca.crt":  trusted,
	} {
		if err := os.WriteFile(filepath.Join(version, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next := filepath.Join(f.path, "..data_tmp")
	if err := os.Symlink(filepath.Base(version), next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(f.path, "..data")); err != nil {
		t.Fatal(err)
	}
	return issued.Leaf.SerialNumber
}

// client trusts what the folder trusts and shows what it holds.
func (f *tlsFolder) client(t *testing.T) *tls.Config {
	t.Helper()
	trusted, err := os.ReadFile(f.ca)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{shown}, ServerName: "127.0.0.1", NextProtos: []string{"h2", "http/1.1"}}
	config.RootCAs.AppendCertsFromPEM(trusted)
	return config
}

func (f *tlsFolder) flags(prefix string) []string {
	return []string{"--" + prefix + "-tls-cert", f.cert, "--" + prefix + "-tls-key", f.key, "--" + prefix + "-tls-client-ca", f.ca, "--" + prefix + "-tls-client-names", gatewayID}
}

// secureStack is a service that takes Checks and admin calls over mTLS only,
// behind an Envoy that shows the certificate of client.
func secureStack(t *testing.T, service, client *tlsFolder, args ...string) (*server, *envoytest.Instance, string) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
	key := createKeyOffline(t, data, "secure", "--owner", testUser, "--strict").Key
	s := startServer(t, data, append(append(service.flags("grpc"), service.flags("admin")...), args...)...)
	secrets := t.TempDir()
	how := envoy.ServiceTLS{CA: client.ca, Certificate: client.cert, Key: client.key}
	o := envoy.Options{
		Authz: []string{s.grpc}, AuthzTLS: how, AdminAPI: s.admin, AdminTLS: how, TLSSecrets: secrets, Upstream: echo.Start(t).Address(),
		AuthzTimeout: 10 * time.Second, // about what is decided, not how fast
	}
	files, err := envoy.RenderSecrets(o)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(secrets, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, envoytest.Start(t, o), key
}

// shownBy returns the serial number of a server's certificate.
func shownBy(address string, config *tls.Config) (*big.Int, error) {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

// Both sides' certificates and at last their authority are exchanged, while
// connections are made anew all the time; no request fails.
func TestTLSRotation(t *testing.T) {
	envoytest.Require(t)
	old, next := tlsfilestest.NewAuthority(t), tlsfilestest.NewAuthority(t)
	both := append(append([]byte{}, old.PEM...), next.PEM...)
	service, client := newTLSFolder(t), newTLSFolder(t)
	service.publish(t, old, "spiffe://cluster.local/ns/tokenkit/sa/authz", old.PEM)
	client.publish(t, old, gatewayID, old.PEM)
	s, front, key := secureStack(t, service, client, "--grpc-max-connection-age", "1s")
	waitHealthy(t, front.AdminURL, 1)
	if token, err := login(t.Context(), front.URL, testUser, testPassword); err != nil || token == "" {
		t.Errorf("the admin API cannot be used through Envoy: %v", err)
	}
	l := &load{url: front.URL, key: key}
	l.start(4)
	for i, step := range []struct {
		by      *tlsfilestest.Authority
		trusted []byte
	}{{old, old.PEM}, {old, both}, {next, both}, {next, next.PEM}} {
		serial := service.publish(t, step.by, "spiffe://cluster.local/ns/tokenkit/sa/authz", step.trusted)
		shown := client.publish(t, step.by, gatewayID, step.trusted)
		for _, address := range []string{s.grpc, s.admin} {
			eventually(t, "the service shows its new certificate", func() bool {
				got, err := shownBy(address, client.client(t))
				return err == nil && got.Cmp(serial) == 0
			})
		}
		eventually(t, "Envoy holds its new certificate", func() bool {
			return strings.Contains(body(t, front.AdminURL+"/certs"), fmt.Sprintf(`"serial_number": "%x"`, shown.Bytes()))
		})
		l.note("step " + big.NewInt(int64(i)).String())
		before := l.requests.Load()
		eventually(t, "requests go on", func() bool { return l.requests.Load() > before+200 })
	}
	// After a connection's age the service has seen Envoy by its new one only.
	eventually(t, "more connections are made", func() bool { return l.requests.Load() > 2000 })
	l.end(t)
}

func body(t *testing.T, address string) string {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
