package tlsfiles_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/internal/tlsfiles"
	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

// Only a certificate of the authority, for clients, in its time and with an
// allowed name among its alternative names lets a client in.
func TestAttackClientCertificate(t *testing.T) {
	const gateway = "spiffe://cluster.local/ns/edge/sa/gateway"
	ca, other := tlsfilestest.NewAuthority(t), tlsfilestest.NewAuthority(t)
	_, o := folder(t, ca.Issue(t, nil), ca.PEM)
	o.ClientNames = []string{gateway, "envoy.example.io", "192.0.2.7", "2001:db8::7"}
	files, err := tlsfiles.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	named := func(text string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.IPAddresses, c.URIs = nil, []*url.URL{parseURI(t, text)} }
	}
	dns := func(text string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{text} }
	}
	for _, c := range []struct {
		name string
		by   *tlsfilestest.Authority
		want bool
		make func(*x509.Certificate)
	}{
		{"the gateway", ca, true, named(gateway)},
		{"its DNS name", ca, true, dns("Envoy.Example.io")},
		{"its address", ca, true, func(c *x509.Certificate) { c.IPAddresses[0] = []byte{192, 0, 2, 7} }},
		{"no name at all", ca, false, func(c *x509.Certificate) { c.IPAddresses = nil }},
		{"another authority", other, false, named(gateway)},
		{"another account", ca, false, named("spiffe://cluster.local/ns/edge/sa/gateway2")},
		{"a longer path", ca, false, named(gateway + "/x")},
		{"another trust domain", ca, false, named("spiffe://cluster.local.evil/ns/edge/sa/gateway")},
		{"the URI as a common name", ca, false, func(c *x509.Certificate) { c.IPAddresses, c.Subject = nil, pkix.Name{CommonName: gateway} }},
		{"the DNS name as a common name", ca, false, func(c *x509.Certificate) { c.IPAddresses, c.Subject = nil, pkix.Name{CommonName: "envoy.example.io"} }},
		{"a wildcard that covers it", ca, false, dns("*.example.io")},
		{"a name below it", ca, false, dns("a.envoy.example.io")},
		{"the address as a DNS name", ca, false, dns("192.0.2.7")},
		{"the DNS name as a URI", ca, false, named("https://envoy.example.io")},
		{"expired", ca, false, func(c *x509.Certificate) { named(gateway)(c); c.NotAfter = time.Now().Add(-time.Second) }},
		{"not yet", ca, false, func(c *x509.Certificate) { named(gateway)(c); c.NotBefore = time.Now().Add(time.Hour) }},
		{"for servers only", ca, false, func(c *x509.Certificate) { named(gateway)(c); c.ExtKeyUsage = c.ExtKeyUsage[:1] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := handshake(files.Config(), client(ca, c.by.Issue(t, c.make).TLS(t))); (got.err == nil) != c.want {
				t.Errorf("got %v, want it let in: %v", got.err, c.want)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		if got := handshake(files.Config(), client(ca)); got.err == nil {
			t.Error("let in")
		}
	})
}

// No version before TLS 1.2 is spoken, whether clients show certificates or not.
func TestAttackOldVersions(t *testing.T) {
	ca := tlsfilestest.NewAuthority(t)
	p := ca.Issue(t, nil)
	for name, authorities := range map[string][]byte{"TLS": nil, "mTLS": ca.PEM} {
		_, o := folder(t, p, authorities)
		files, err := tlsfiles.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			config := client(ca, p.TLS(t))
			config.MinVersion, config.MaxVersion = version, version
			if got := handshake(files.Config(), config); (got.err == nil) != want {
				t.Errorf("%s, %s: got %v", name, tls.VersionName(version), got.err)
			}
		}
	}
}

// A client whose authority is no longer trusted does not get in by what it has
// kept from an earlier connection.
func TestAttackResumption(t *testing.T) {
	ca, next := tlsfilestest.NewAuthority(t), tlsfilestest.NewAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		p := ca.Issue(t, nil)
		_, o := folder(t, p, ca.PEM)
		files, stop := run(t, o)
		defer stop()
		server := files.Config() // one, as a server has: tickets are by its keys
		config := client(ca, p.TLS(t))
		config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		for range 2 {
			if got := handshake(server, config); got.err != nil || got.resumed {
				t.Fatalf("got %+v", got)
			}
		}
		put(t, o.ClientCA, next.PEM)
		time.Sleep(10 * time.Second)
		if got := handshake(server, config); got.err == nil {
			t.Error("a client of the old authority is let in")
		}
		if got := handshake(server, client(ca, next.Issue(t, nil).TLS(t))); got.err != nil {
			t.Errorf("a client of the new authority: %v", got.err)
		}
	})
}

// Files that others could have written are not believed.
func TestAttackWritableFiles(t *testing.T) {
	ca := tlsfilestest.NewAuthority(t)
	for _, mode := range []os.FileMode{0o660, 0o602, 0o666} {
		_, o := folder(t, ca.Issue(t, nil), ca.PEM)
		for _, path := range []string{o.Certificate, o.Key, o.ClientCA} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := tlsfiles.Open(o); err == nil || !strings.Contains(err.Error(), "chmod go-w "+path) {
				t.Errorf("%s of mode %o: %v", path, mode, err)
			}
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tlsfiles.Open(o); err != nil {
			t.Error(err)
		}
	}
}
