package tlsfiles

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxFile bounds a file; the bundles of all public authorities are smaller.
const maxFile = 1 << 20

// contents are what the files hold.
type contents struct {
	certificate, key, clientCA []byte
	keyForAll                  bool // everybody may read the key
}

// sum changes with any of the files.
func (c *contents) sum() [sha256.Size]byte {
	var all []byte
	for _, content := range [][]byte{c.certificate, c.key, c.clientCA} {
		one := sha256.Sum256(content)
		all = append(all, one[:]...)
	}
	return sha256.Sum256(all)
}

func (o Options) read() (*contents, error) {
	c := &contents{}
	for _, one := range []struct {
		option, path string
		content      *[]byte
	}{
		{"cert", o.Certificate, &c.certificate}, {"key", o.Key, &c.key}, {"client_ca", o.ClientCA, &c.clientCA},
	} {
		if one.path == "" {
			continue
		}
		content, mode, err := readFile(one.path)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", one.option, one.path, err)
		}
		// Whoever can write any of them decides who is believed.
		if mode.Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s %s: expected a file that only its owner may write, not one of mode %o; to fix it: chmod go-w %s", one.option, one.path, mode.Perm(), one.path)
		}
		*one.content = content
		if one.option == "key" {
			c.keyForAll = mode.Perm()&0o004 != 0
		}
	}
	return c, nil
}

func readFile(path string) ([]byte, os.FileMode, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, errors.Unwrap(err) // its path is named already
	}
	defer file.Close() //nolint:errcheck // nothing was written
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("expected a file")
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(content) > maxFile {
		return nil, 0, fmt.Errorf("expected at most %d bytes", maxFile)
	}
	return content, info.Mode(), nil
}

// parseAuthorities reads certificates, all or none: of a file that was cut
// off, half the authorities must not do.
func parseAuthorities(content []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("expected certificates only, not a PEM block %q", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", n+1, err)
		}
		pool.AddCert(certificate)
		n++
	}
	if bytes.Contains(content, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("expected a whole PEM block after certificate %d", n)
	}
	if n == 0 {
		return nil, errors.New("expected at least one certificate in PEM")
	}
	return pool, nil
}
