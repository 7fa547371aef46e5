package tlsfiles_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/internal/tlsfiles"
	"github.com/tokenkithq/authz/internal/tlsfiles/tlsfilestest"
)

func parseURI(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// folder writes the files of a server.
func folder(t *testing.T, p tlsfilestest.Pair, clientCA []byte) (string, tlsfiles.Options) {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "tls.crt"), p.Certificate)
	put(t, filepath.Join(dir, "tls.key"), p.Key)
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

func client(ca *tlsfilestest.Authority, certificates ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
}
