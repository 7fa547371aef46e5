// Package tlsfiles serves TLS with a certificate from files, and takes up new
// ones without a restart.
//
//	files, err := tlsfiles.Open(tlsfiles.Options{
//		Certificate: "tls.crt", Key: "tls.key",
//		ClientCA: "ca.crt", ClientNames: []string{"spiffe://cluster.local/ns/edge/sa/gateway"},
//		Protocols: []string{"h2"}, Logger: logger,
//	})
//	listener = tls.NewListener(listener, files.Config())
//	err = files.Run(ctx) // until ctx is done
//
// [Files.Run] looks at the contents of the files, whatever they are reached
// by: a file that is renamed into place, one that is written anew, or a link
// to a folder that is exchanged, as Kubernetes does it. What two looks in a
// row find the same, and what is good, is used for all connections from then
// on. What is not good is logged as an error, and the old files go on to be
// used; so a broken renewal is no outage until the old certificate expires,
// and of that there are warnings in time.
//
// With a ClientCA only clients that show a certificate of it are served, and
// with ClientNames only those that are named in it. Both hold for each
// connection at its beginning: bound the age of connections where a client
// that is refused from now on must also lose the connections that it has.
package tlsfiles

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Options name PEM files. Certificate and Key are required.
type Options struct {
	Certificate string // the certificate, and those that it was issued with
	Key         string // its private key
	// ClientCA holds the certificates that clients' certificates are issued
	// by. Empty: clients show none.
	ClientCA string
	// ClientNames are names of which a client's certificate must have at
	// least one: a DNS name, an IP address or a URI such as a SPIFFE ID, each
	// exactly as the certificate says it. Empty: any.
	ClientNames []string
	// Protocols are what is spoken over TLS (ALPN), the best first.
	Protocols []string

	// Interval is the time between two looks at the files. Zero: 2 s.
	Interval time.Duration
	// Logger receives what is reloaded, what cannot be and what is about to
	// expire. Nil: nothing is logged.
	Logger *slog.Logger
}

const defaultInterval = 2 * time.Second

// Validate reports the first option that is wrong, as "key: expected …",
// without opening a file.
func (o Options) Validate() error {
	_, err := o.names()
	return err
}

func (o Options) names() (allowed, error) {
	switch {
	case o.Certificate == "" && o.Key == "" && o.ClientCA == "" && len(o.ClientNames) == 0:
		return nil, errors.New("cert: expected a file")
	case o.Certificate == "":
		return nil, errors.New("cert: expected a file, since there is no TLS without a certificate")
	case o.Key == "":
		return nil, errors.New("key: expected the file with the private key of the certificate")
	case o.ClientCA == "" && len(o.ClientNames) > 0:
		return nil, errors.New("client_ca: expected a file, since names count only in certificates that somebody vouches for")
	}
	names := make(allowed, len(o.ClientNames))
	for i, text := range o.ClientNames {
		n, err := parseName(text)
		if err != nil {
			return nil, fmt.Errorf("client_names[%d] %q: %w", i, text, err)
		}
		names[n] = true
	}
	return names, nil
}

// Files are a certificate in use. All methods may be called at any time.
type Files struct {
	options Options
	allowed allowed
	logger  *slog.Logger
	inUse   atomic.Pointer[loaded]
	refusal atomic.Int64 // when a client was last refused by its names, in seconds
	// looking is what [Files.Run] alone knows.
	looking struct {
		seen     [sha256.Size]byte // by the last look
		reported time.Time         // when the failure that lasts was last logged; zero: none
		expiring time.Time         // when an expiry was last logged
	}
}

// Open reads the files. Its error names the option that is wrong, or the file
// and what was expected of it.
func Open(o Options) (*Files, error) {
	names, err := o.names()
	if err != nil {
		return nil, err
	}
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	f := &Files{options: o, allowed: names, logger: o.Logger}
	if f.logger == nil {
		f.logger = slog.New(slog.DiscardHandler)
	}
	contents, err := o.read()
	if err != nil {
		return nil, err
	}
	in, err := f.load(contents)
	if err != nil {
		return nil, err
	}
	f.inUse.Store(in)
	f.looking.seen = in.sum
	if contents.keyForAll {
		f.logger.Warn("every user of this machine can read the private key; where there are others: chmod o= "+o.Key, "file", o.Key)
	}
	return f, nil
}

// Config returns what a server needs. It holds for all reloads.
func (f *Files) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: f.options.Protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return f.inUse.Load().config, nil
		},
	}
}

// Expires returns when the certificate in use expires.
func (f *Files) Expires() time.Time { return f.inUse.Load().leaf.NotAfter }

// loaded is one state of the files that is good.
type loaded struct {
	sum    [sha256.Size]byte
	config *tls.Config
	leaf   *x509.Certificate
}

func (f *Files) load(c *contents) (*loaded, error) {
	pair, err := tls.X509KeyPair(c.certificate, c.key)
	if err != nil {
		return nil, fmt.Errorf("cert %s and key %s: %w", f.options.Certificate, f.options.Key, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: f.options.Protocols, Certificates: []tls.Certificate{pair}}
	if f.options.ClientCA != "" {
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if config.ClientCAs, err = parseAuthorities(c.clientCA); err != nil {
			return nil, fmt.Errorf("client_ca %s: %w", f.options.ClientCA, err)
		}
		// A ticket would vouch for a client whose authority is gone by now.
		config.SessionTicketsDisabled = true
		if len(f.allowed) > 0 {
			config.VerifyConnection = f.verify
		}
	}
	return &loaded{sum: c.sum(), config: config, leaf: pair.Leaf}, nil
}

func (f *Files) verify(state tls.ConnectionState) error {
	client := state.PeerCertificates[0] // verified, so there is one
	if f.allowed.match(client) {
		return nil
	}
	names := namesOf(client)
	// Whoever gets here has a certificate, but may call without an end.
	now := time.Now().Unix()
	if last := f.refusal.Load(); last != now && f.refusal.CompareAndSwap(last, now) {
		f.logger.Warn("a client was refused: none of its certificate's names is allowed", "names", names)
	}
	return fmt.Errorf("client certificate for %q: expected an allowed name", names)
}

// Run looks for new files until ctx is done; it then returns nil.
func (f *Files) Run(ctx context.Context) error {
	f.warn(time.Now())
	ticker := time.NewTicker(f.options.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			f.look(now)
			f.warn(now)
		}
	}
}

// remind is how long a failure that lasts is not logged again.
const remind = time.Hour

// look takes up files that are new and good.
func (f *Files) look(now time.Time) {
	contents, err := f.options.read()
	var sum [sha256.Size]byte
	if err != nil {
		sum = sha256.Sum256([]byte(err.Error()))
	} else {
		sum = contents.sum()
	}
	looking := &f.looking
	steady := sum == looking.seen
	if looking.seen = sum; !steady {
		looking.reported = time.Time{}
		return // perhaps they are being written
	}
	if sum == f.inUse.Load().sum {
		return
	}
	var in *loaded
	if err == nil {
		in, err = f.load(contents)
	}
	if err != nil {
		if looking.reported.IsZero() || now.Sub(looking.reported) >= remind {
			looking.reported = now
			f.logger.Error("the new TLS files are not good; the old ones stay in use", "error", err, "expires", f.Expires())
		}
		return
	}
	f.inUse.Store(in)
	looking.expiring = time.Time{}
	f.logger.Info("new TLS files are in use", "file", f.options.Certificate, "names", namesOf(in.leaf), "expires", in.leaf.NotAfter)
}

// warn logs that the certificate in use has expired or soon will: what renews
// certificates has done so long before the last sixth of their time.
func (f *Files) warn(now time.Time) {
	leaf := f.inUse.Load().leaf
	left := leaf.NotAfter.Sub(now)
	if left >= min(leaf.NotAfter.Sub(leaf.NotBefore)/6, 30*24*time.Hour) {
		return
	}
	again := remind
	if left > 24*time.Hour {
		again = 24 * time.Hour
	}
	if !f.looking.expiring.IsZero() && now.Sub(f.looking.expiring) < again {
		return
	}
	f.looking.expiring = now
	if left <= 0 {
		f.logger.Error("the TLS certificate has expired; clients refuse it", "file", f.options.Certificate, "expires", leaf.NotAfter)
		return
	}
	f.logger.Warn("the TLS certificate is about to expire and was not renewed", "file", f.options.Certificate, "expires", leaf.NotAfter)
}
