package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tokenkithq/authz/internal/secretfile"
)

// engine is where something is kept: a word for what needs no address, or
// SCHEME://HOST:PORT,HOST:PORT/PATH.
type engine struct {
	scheme string
	hosts  []string // host:port
	path   string   // without slashes around it
}

// parseEngine reads one, without repeating what may be a password.
func parseEngine(text string) (engine, error) {
	scheme, rest, remote := strings.Cut(text, "://")
	if !remote {
		return engine{scheme: text}, nil
	}
	if strings.Contains(rest, "@") {
		return engine{}, errors.New("expected no user or password: there are settings for them")
	}
	if strings.ContainsAny(rest, "?# ") {
		return engine{}, errors.New("expected SCHEME://HOST:PORT,HOST:PORT/PATH and nothing else")
	}
	all, path, _ := strings.Cut(rest, "/")
	e := engine{scheme: scheme, path: strings.Trim(path, "/")}
	for i, address := range strings.Split(all, ",") {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host == "" || port == "" {
			return engine{}, fmt.Errorf("address %d, %q: expected HOST:PORT", i+1, address)
		}
		e.hosts = append(e.hosts, address)
	}
	return e, nil
}

// isEtcd says that it is a cluster of etcd.
func (e engine) isEtcd() bool { return e.remote() && (e.scheme == "etcd" || e.scheme == "etcd+tls") }

// remote says that there is something to connect to.
func (e engine) remote() bool { return len(e.hosts) > 0 }

// urls returns the hosts as URLs.
func (e engine) urls(encrypted bool) []string {
	scheme := "http"
	if encrypted {
		scheme = "https"
	}
	all := make([]string, len(e.hosts))
	for i, host := range e.hosts {
		all[i] = (&url.URL{Scheme: scheme, Host: host}).String()
	}
	return all
}

// engineAccess is how an engine knows who connects, and the other way round.
type engineAccess struct {
	clientTLS
	user, passwordFile string
}

func (a *engineAccess) flags(f *pflag.FlagSet, prefix, of string) {
	a.clientTLS.flags(f, prefix, of)
	f.StringVar(&a.user, prefix+"-user", "", "user name at "+of)
	f.StringVar(&a.passwordFile, prefix+"-password-file", "", "file with the password at "+of)
}

// password reads the password, which is empty where there is none.
func (a *engineAccess) password() (string, error) {
	if a.passwordFile == "" {
		return "", nil
	}
	secret, err := secretfile.Read(a.passwordFile)
	if err != nil {
		return "", a.setting("password_file", err)
	}
	return string(secret), nil
}

// clientTLS are the files of a connection that this program opens.
type clientTLS struct {
	prefix        string // of the settings
	ca, cert, key string
}

func (c *clientTLS) flags(f *pflag.FlagSet, prefix, of string) {
	c.prefix = strings.ReplaceAll(prefix, "-", "_")
	f.StringVar(&c.ca, prefix+"-ca", "", "PEM file with the authorities whose certificates "+of+" may show; empty: those of the system")
	f.StringVar(&c.cert, prefix+"-cert", "", "PEM file with the certificate to show to "+of+"; empty: none")
	f.StringVar(&c.key, prefix+"-cert-key", "", "PEM file with its private key")
}

func (c *clientTLS) setting(name string, err error) error {
	return fmt.Errorf("%s_%s: %w", c.prefix, name, err)
}

// none says that no file is named.
func (c *clientTLS) none() bool { return c.ca == "" && c.cert == "" && c.key == "" }

// config returns the configuration of an encrypted connection, and nil for one
// that is not, for which no file may be named.
func (c *clientTLS) config(encrypted bool) (*tls.Config, error) {
	if !encrypted && c.none() {
		return nil, nil //nolint:nilnil // no configuration is the configuration
	}
	if !encrypted {
		return nil, c.setting("ca, "+c.prefix+"_cert", errors.New("expected nothing, since the connection is not encrypted"))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		text, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, c.setting("ca", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, c.setting("ca", errors.New("expected certificates in PEM form"))
		}
	}
	if (c.cert == "") != (c.key == "") {
		return nil, c.setting("cert", errors.New("expected a certificate together with its key"))
	}
	if c.cert != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // read anew, since it is renewed
			pair, err := tls.LoadX509KeyPair(c.cert, c.key)
			return &pair, err
		}
		if _, err := config.GetClientCertificate(nil); err != nil {
			return nil, c.setting("cert", err)
		}
	}
	return config, nil
}

// probeTimeout is how long it is looked which certificates servers show.
const probeTimeout = 2 * time.Second

// probe looks at the certificates of servers before a client does that would
// try them again and again. An error says that none of them is accepted, and
// why; where servers are not reached there is none.
func (c *clientTLS) probe(ctx context.Context, hosts []string, config *tls.Config) error {
	if config == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	results := make(chan error, len(hosts))
	for _, host := range hosts {
		go func() {
			conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", host)
			if err != nil {
				results <- fmt.Errorf("%s: %w", host, err)
				return
			}
			results <- conn.Close()
		}()
	}
	var refused error
	for range hosts {
		err := <-results
		if err == nil {
			return nil
		}
		var unverified *tls.CertificateVerificationError
		if errors.As(err, &unverified) {
			refused = c.setting("ca", err)
		}
	}
	return refused
}
