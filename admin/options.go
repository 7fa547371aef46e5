package admin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/usage"
)

// Store is what the API needs of a [store.Store]. Deletions go through it, so
// it must be the [store.Cache] where Checks use one.
type Store interface {
	store.Keys
	store.Users
	store.Invitations
	store.Sessions
	store.Audit
}

// Blocks are the addresses that are refused for their failures.
// Implementations must be safe for concurrent use.
type Blocks interface {
	// ListBlocks returns what is blocked now, in any order.
	ListBlocks(ctx context.Context) ([]Block, error)
	// Unblock ends the block that holds for addr and forgets its failures.
	// It reports whether addr was blocked.
	Unblock(ctx context.Context, addr netip.Addr) (bool, error)
}

// Block is an address, or an IPv6 network, that is refused for now.
type Block struct {
	Prefix   netip.Prefix
	Failures int           // in the window
	Reason   apikey.Reason // of the last failure
	Since    time.Time
	Until    time.Time // when the block ends by itself
}

// Usage counts what keys do; it is a [usage.Recorder].
type Usage interface {
	// SeriesOf returns what each of up to [usage.MaxKeys] keys did from from to
	// to, or an [*apikey.FieldError] where the times do not make sense.
	SeriesOf(ctx context.Context, ids []apikey.KeyID, resolution usage.Resolution, from, to time.Time) (map[apikey.KeyID][]usage.Point, error)
}

// Limits knows how much of their hourly limits keys have used. Implementations
// must be safe for concurrent use.
type Limits interface {
	// LimitState returns the state of a key's limit and changes nothing.
	LimitState(key *apikey.Key, now time.Time) LimitState
}

// LimitState is the state of a key's hourly limit.
type LimitState struct {
	Limit     uint32 // zero: the key has none, and the rest is zero
	Remaining uint32
	// Returns is how long until the next call returns. Zero: none is out.
	Returns time.Duration
}

// Backuper writes a consistent copy of all that is stored while it is in use.
type Backuper interface {
	// Backup writes the copy to w and returns its length in bytes.
	Backup(ctx context.Context, w io.Writer) (int64, error)
}

// Options are what an [Admin] is made of. Only Store is required.
type Options struct {
	Store Store
	// Logger receives sign-ins, refused ones and changes. Nil: nothing is
	// logged.
	Logger *slog.Logger
	// KeyHasher makes the hashes of keys; that of Checks must know its first
	// way. Zero: SHA-256.
	KeyHasher apikey.Hasher
	// Now is the clock. Nil: [time.Now].
	Now func() time.Time
	// Version is what the API description and the state say. Empty: "dev".
	Version string

	// SessionTTL is how long a session lasts, used or not. Zero: 12 hours.
	SessionTTL time.Duration
	// SessionIdle is how long it lasts while it is not used, which is known to
	// a minute. Zero: one hour.
	SessionIdle time.Duration
	// DefaultRateLimit is the hourly limit of keys that are made without
	// one. Zero: no limit.
	DefaultRateLimit uint32
	// RequestTimeout bounds the work behind every request but a backup. A
	// store whose changes wait for other machines needs more than the default,
	// and a server of [NewServer] as much more [http.Server.WriteTimeout].
	// Zero: 5 seconds.
	RequestTimeout time.Duration
	// Passwords is the cost of a password hash. Zero: [DefaultPasswordCost].
	Passwords PasswordCost
	// HashElsewhere makes the hash of a password somewhere else than in this
	// process, where a processor is busy with it meanwhile. With an error it was
	// not made, and is made here. Nil: all are made here.
	HashElsewhere func(context.Context, PasswordInput) (PasswordDigest, error)
	// Working is called before a password is hashed in this process, and what it
	// returns afterwards: a processor is busy in between. Nil: nobody is told.
	Working func() (done func())

	// AllowedHosts are the host names, without a port, that the public API
	// answers to besides localhost, loopback addresses and the host of
	// ListenAddress. Any other gets 421, so that a web page cannot reach the
	// API by pointing a name of its own at it. Behind a proxy that keeps the
	// Host header, name the host that clients use.
	AllowedHosts []string
	// ListenAddress is the host:port that the public API is served on. Where
	// its host is the unspecified address, every literal IP address is an
	// allowed host.
	ListenAddress string
	// ClientAddressHeader names a header that holds the client's address.
	// Set it only where a trusted proxy overwrites that header and nobody
	// else can connect. Empty: the address of the connection's peer.
	ClientAddressHeader string

	// PublicURL is where browsers reach the public API, such as
	// https://keys.example.io, without a path. Its host is an allowed one, and
	// where its scheme is https, session cookies are sent over TLS only. Empty:
	// http and ListenAddress.
	PublicURL string

	// Usage counts calls. Nil: the calls that ask for counts answer 501.
	Usage Usage
	// Limits knows the state of limits. Nil: the calls that ask for it answer
	// 501.
	Limits Limits
	// Strict says that Checks take every key for a strict one.
	Strict bool
	// LimitStatus is what a call over its key's limit is answered with, as
	// explanations say. Zero: 403.
	LimitStatus int
	// Dashboard answers what is not below /api/ and has no route. Nil: nothing
	// does.
	Dashboard http.Handler

	// Observer hears of requests to either API. Nil: nobody does.
	Observer Observer

	// Ready reports why the program cannot serve yet. Nil: always ready.
	Ready func(ctx context.Context) error
	// Blocks is what the operator lists and unblocks. Nil: those calls
	// answer 501.
	Blocks Blocks
	// Backup is what the operator's backup copies. Nil: that call answers
	// 501.
	Backup Backuper
	// BackupRate is how many bytes of it are sent a second. Zero:
	// [DefaultBackupRate].
	BackupRate int64
}

// PasswordCost is the cost of an argon2id hash. The zero value stands for
// [DefaultPasswordCost].
type PasswordCost struct {
	MemoryKiB   uint32 // 8 per thread to 1,048,576 (1 GiB)
	Passes      uint32 // 1 to 16
	Parallelism uint8  // threads, 1 to 16
}

// PasswordInput is what the argon2id hash of a password is made of.
type PasswordInput struct {
	Password []byte
	Salt     []byte
	Cost     PasswordCost
	Length   uint32 // of the digest, in bytes
}

// PasswordDigest is what was made of a [PasswordInput].
type PasswordDigest struct {
	Digest []byte
	Took   time.Duration // of processor time
}

// DefaultPasswordCost is 19 MiB, two passes and one thread: the least that
// OWASP's Password Storage Cheat Sheet recommends for argon2id.
var DefaultPasswordCost = PasswordCost{MemoryKiB: 19456, Passes: 2, Parallelism: 1}

const (
	defaultSessionTTL  = 12 * time.Hour
	defaultSessionIdle = time.Hour
	requestTimeout     = 5 * time.Second // the default, and that of the service's own work
)

// Validate reports the first option that is wrong, other than a Store that is
// missing.
func (o Options) Validate() error {
	_, err := o.complete()
	return err
}

// complete returns o with its defaults filled in, or the first option that
// is wrong.
func (o Options) complete() (Options, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BackupRate <= 0 {
		o.BackupRate = DefaultBackupRate
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = requestTimeout
	}
	if o.RequestTimeout < 0 {
		return o, fmt.Errorf("admin options: RequestTimeout: expected more than nothing, got %v", o.RequestTimeout)
	}
	if o.SessionTTL == 0 {
		o.SessionTTL = defaultSessionTTL
	}
	if o.SessionTTL < time.Second {
		return o, fmt.Errorf("admin options: SessionTTL: expected at least 1s, got %v", o.SessionTTL)
	}
	if o.SessionIdle == 0 {
		o.SessionIdle = defaultSessionIdle
	}
	if o.SessionIdle < 2*seenInterval {
		return o, fmt.Errorf("admin options: SessionIdle: expected at least %v, got %v", 2*seenInterval, o.SessionIdle)
	}
	if o.DefaultRateLimit > apikey.MaxRateLimit {
		return o, fmt.Errorf("admin options: DefaultRateLimit: expected at most %d, got %d", apikey.MaxRateLimit, o.DefaultRateLimit)
	}
	if o.Passwords == (PasswordCost{}) {
		o.Passwords = DefaultPasswordCost
	}
	if err := o.Passwords.validate(); err != nil {
		return o, fmt.Errorf("admin options: Passwords: %w", err)
	}
	if o.LimitStatus == 0 {
		o.LimitStatus = http.StatusForbidden
	}
	if o.PublicURL == "" && o.ListenAddress != "" {
		o.PublicURL = "http://" + o.ListenAddress
	}
	return o, o.checkNames()
}

// checkNames reports the first host or header name that could never match.
func (o Options) checkNames() error {
	for i, host := range o.AllowedHosts {
		name := canonicalHost(host)
		if _, err := netip.ParseAddr(name); err != nil && (name == "" || strings.ContainsAny(name, ":/@*, ")) {
			return fmt.Errorf("admin options: AllowedHosts[%d]: expected a host name or address without a port, got %q", i, host)
		}
	}
	if o.ListenAddress != "" {
		if _, _, err := net.SplitHostPort(o.ListenAddress); err != nil {
			return fmt.Errorf("admin options: ListenAddress: expected host:port, got %q", o.ListenAddress)
		}
	}
	if o.PublicURL != "" {
		u, err := url.Parse(o.PublicURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || o.PublicURL != u.Scheme+"://"+u.Host {
			return fmt.Errorf("admin options: PublicURL: expected https:// or http:// and a host without a path, got %q", o.PublicURL)
		}
	}
	if strings.ContainsAny(o.ClientAddressHeader, " :,") {
		return fmt.Errorf("admin options: ClientAddressHeader: expected the name of a header, got %q", o.ClientAddressHeader)
	}
	return nil
}

// NewServer returns an HTTP server for handler with limits on how slow and
// how large a request may be: 5 s for its header of at most 16 KiB, 15 s for
// all of it, 30 s for the answer. It speaks HTTP/1.1 only. The caller sets its
// address and TLS.
func NewServer(handler http.Handler, logger *slog.Logger) *http.Server {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		Protocols:         new(http.Protocols),
	}
	// HTTP/2 has more ways to keep a server busy, and nothing that is needed here.
	server.Protocols.SetHTTP1(true)
	if logger != nil {
		server.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelWarn)
	}
	return server
}

// hosts returns the names that clients may use: those that are allowed and
// that of the public URL.
func (o *Options) hosts() []string {
	hosts := slices.Clone(o.AllowedHosts)
	if u, err := url.Parse(o.PublicURL); err == nil && u.Hostname() != "" {
		hosts = append(hosts, u.Hostname())
	}
	return hosts
}
