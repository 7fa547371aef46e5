package tlsfiles_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/tlsfiles"
)

var serial atomic.Int64

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	certificate, key := sign(t, template, nil)
	return &authority{certificate, key, encoded("CERTIFICATE", certificate.Raw)}
}

// sign signs with by, or with the new key itself where by is nil.
func sign(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(serial.Add(1))
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func encoded(kind string, raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
}

// pair is a certificate and its key in PEM.
type pair struct {
	certificate, key []byte
	leaf             *x509.Certificate
}

func (p pair) tls(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.certificate, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issue makes a certificate for both sides, for 127.0.0.1 and for a day unless
// change says otherwise.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) pair {
	t.Helper()
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if change != nil {
		change(template)
	}
	leaf, key := sign(t, template, a)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{encoded("CERTIFICATE", leaf.Raw), encoded("PRIVATE KEY", raw), leaf}
}

func parseURI(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// folder writes the files of a server.
func folder(t *testing.T, p pair, clientCA []byte) (string, tlsfiles.Options) {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "tls.crt"), p.certificate)
	put(t, filepath.Join(dir, "tls.key"), p.key)
	o := tlsfiles.Options{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), Protocols: []string{"h2"}}
	if clientCA != nil {
		o.ClientCA = filepath.Join(dir, "ca.crt")
		put(t, o.ClientCA, clientCA)
	}
	return dir, o
}

// put writes a file by renaming it into place.
func put(t *testing.T, path string, content []byte) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// served is what a client found out.
type served struct {
	serial  *big.Int
	resumed bool
	err     error
}

// handshake makes a connection and exchanges a byte, so that both sides have
// accepted it and the client has a ticket if there is one.
func handshake(server *tls.Config, client *tls.Config) served {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return served{err: err}
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		left, err := listener.Accept()
		if err == nil {
			conn := tls.Server(left, server)
			_, err = conn.Write([]byte{1})
			_ = conn.Close()
		}
		done <- err
	}()
	right, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return served{err: err}
	}
	conn := tls.Client(right, client)
	_, err = io.ReadFull(conn, make([]byte, 1))
	state := conn.ConnectionState()
	_ = right.Close()
	if serverErr := <-done; err == nil {
		err = serverErr
	}
	s := served{resumed: state.DidResume, err: err}
	if len(state.PeerCertificates) > 0 {
		s.serial = state.PeerCertificates[0].SerialNumber
	}
	return s
}

func client(ca *authority, certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
}
