package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/extauthz"
	"github.com/tokenkithq/authz/internal/procs"
	"github.com/tokenkithq/authz/internal/pwhash"
)

// settings are what serve can be told. Their flags are the one list of their
// names and defaults.
type settings struct {
	config     string
	data       string
	logLevel   string
	logForm    string
	logDenials int
	out        io.Writer // standard output

	levelVar slog.LevelVar     // of the logger
	texts    map[string]string // by flag, as they were read
	reloads  <-chan *settings  // read anew; nil: never
	governor *procs.Governor   // nil: none
	hashes   *pwhash.Pool      // nil: passwords are hashed in this process

	decisionLog        string
	decisionLogDenials bool
	decisionLogOneIn   uint32
	otlpEndpoint       string
	grpcReflection     bool

	grpcListen    string
	grpcSocket    string
	adminListen   string
	metricsListen string
	transport     transportSettings
	store         storeSettings
	limits        limitSettings
	drain         time.Duration
	stopDeadline  time.Duration

	keyHeaders    []string
	keyQuery      string
	keyBearer     bool
	keyPepperFile string
	clientAddress string
	strict        bool
	limitStatus   int
	headerKeyID   string
	headerKeyName string
	headerOwner   string
	headerMeta    string

	removeUnderscored bool
	blockNever        []string
	blockIgnore       []string

	defaultRateLimit   uint32
	sessionTTL         time.Duration
	sessionIdle        time.Duration
	adminHosts         []string
	adminAddressHeader string
	publicURL          string
	apiURL             string

	cacheKeys    int
	cacheMissing int
	processors   int
	usage        bool
}

// defaults sets every setting to its default and returns their flags.
func (s *settings) defaults() *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.serveFlags(flags)
	return flags
}

// dataFlags are the flags of every command that needs the data folder.
func (s *settings) dataFlags(f *pflag.FlagSet) {
	f.StringVar(&s.config, configFlag, "", "YAML file to read settings from")
	f.StringVar(&s.data, "data", "data", "folder that holds the keys and all other state")
}

func (s *settings) serveFlags(f *pflag.FlagSet) {
	s.dataFlags(f)
	f.StringVar(&s.logLevel, "log-level", "info", "least level to log: debug, info, warn or error")
	f.StringVar(&s.logForm, "log-format", "text", "form of log lines: text or json")
	f.IntVar(&s.logDenials, "log-denials", 10, "how many denials a second are logged for each reason, and how many faults; 0: all")
	f.StringVar(&s.decisionLog, "decision-log", "", "file to add a line of JSON to for each Check, or - for standard output; empty: none")
	f.BoolVar(&s.decisionLogDenials, "decision-log-denials-only", false, "leave allowed Checks out of the decision log")
	f.Uint32Var(&s.decisionLogOneIn, "decision-log-one-in", 1, "log about one in this many allowed Checks")
	f.StringVar(&s.otlpEndpoint, "otlp-endpoint", "", "collector that traces are sent to by OTLP over gRPC, such as http://127.0.0.1:4317; empty: what OTEL_EXPORTER_OTLP_ENDPOINT says, else none")
	f.BoolVar(&s.grpcReflection, "grpc-reflection", false, "describe the gRPC services to clients that ask, such as grpcurl")

	f.StringVar(&s.grpcListen, "grpc-listen", "127.0.0.1:9001", "address for Envoy's Check calls; empty: none")
	f.StringVar(&s.grpcSocket, "grpc-socket", "", "Unix socket for Envoy's Check calls; empty: none")
	f.StringVar(&s.adminListen, "admin-listen", "127.0.0.1:9002", "address of the admin API; empty: none")
	f.StringVar(&s.metricsListen, "metrics-listen", "", "address of /metrics for Prometheus, such as 127.0.0.1:9003; empty: none")
	s.transport.flags(f)
	f.DurationVar(&s.drain, "drain", 5*time.Second, "how long to answer as unhealthy before stopping, so that Envoy moves on")
	f.DurationVar(&s.stopDeadline, "stop-deadline", 10*time.Second, "how long calls under way may take to end after that, and then saving")

	f.StringSliceVar(&s.keyHeaders, "key-headers", []string{"api-key"}, "headers that may carry a key")
	f.StringVar(&s.keyQuery, "key-query", "", "query parameter that may carry a key; empty: none")
	f.BoolVar(&s.keyBearer, "key-bearer", false, "let Authorization: Bearer carry a key")
	f.StringVar(&s.keyPepperFile, "key-pepper-file", "", "file of peppers, one a line, that keys are hashed with: the first for new keys, the others for those before, none for keys without; empty: no pepper")
	f.StringVar(&s.clientAddress, "client-address", "peer", "where a client's address is read: peer, header:NAME that Envoy overwrites, or forwarded:N for x-forwarded-for with N trusted proxies before Envoy")
	f.BoolVar(&s.strict, "strict", false, "make every key strict: both of its lists must hold for every request")
	f.IntVar(&s.limitStatus, "limit-status", 403, "HTTP status of a spent hourly limit: 403 or 429")
	s.store.flags(f)
	s.limits.flags(f)
	identity := envoy.DefaultIdentity()
	f.StringVar(&s.headerKeyID, "header-key-id", identity.KeyID, "header that tells the upstream the key's id")
	f.StringVar(&s.headerKeyName, "header-key-name", identity.KeyName, "header that tells the upstream the key's name")
	f.StringVar(&s.headerOwner, "header-owner", identity.Owner, "header that tells the upstream the key's owner")
	f.StringVar(&s.headerMeta, "header-metadata", identity.Metadata, "header that tells the upstream the key's metadata, as a dictionary (RFC 9651)")
	f.BoolVar(&s.removeUnderscored, "remove-underscored", false, "remove forged headers such as x_api_key_id too, for an Envoy that does not refuse names with underscores")
	f.StringSliceVar(&s.blockNever, "block-never", nil, "addresses and CIDR prefixes that are never blocked")
	f.StringSliceVar(&s.blockIgnore, "block-ignore", nil, "reasons that do not count towards a block, such as rate_limited")

	f.Uint32Var(&s.defaultRateLimit, "default-rate-limit", 0, "hourly limit of keys made without one; 0: none")
	f.DurationVar(&s.sessionTTL, "session-ttl", 12*time.Hour, "how long a login lasts")
	f.DurationVar(&s.sessionIdle, "session-idle", time.Hour, "how long it lasts while it is not used; at least 2m")
	f.StringSliceVar(&s.adminHosts, "admin-hosts", nil, "host names the admin API answers to, besides loopback ones and its own address")
	f.StringVar(&s.adminAddressHeader, "admin-address-header", "", "header with the client's address on the admin API, where a trusted proxy sets it; empty: the peer")
	f.StringVar(&s.publicURL, "admin-url", "", "where browsers reach the admin API and the dashboard, such as https://keys.example.io; with https, session cookies are sent over TLS only; empty: --admin-listen")
	f.StringVar(&s.apiURL, "api-url", "", "where the protected API is, as the dashboard's examples show it; empty: https://api.example.com")

	f.IntVar(&s.cacheKeys, "cache-keys", 100_000, "how many keys are kept in memory")
	f.IntVar(&s.cacheMissing, "cache-missing", 10_000, "how many unknown keys are remembered as such")
	f.IntVar(&s.processors, "processors", 0, "how many processors to run on; 0: as many as the work needs, or what the environment variable GOMAXPROCS says")
	f.BoolVar(&s.usage, "usage", true, "count what each key does, by minute, hour and day")
}

// govern returns what decides on the processors of this process.
func (s *settings) govern() (*procs.Governor, error) {
	const most = 1024
	if s.processors < 0 || s.processors > most {
		return nil, fmt.Errorf("processors %d: expected 0 to %d", s.processors, most)
	}
	return procs.New(procs.Options{Fixed: s.processors}), nil
}

// committed returns what is to be told how long writing to disk took, or nil.
func (s *settings) committed() func(time.Duration) {
	if s.governor == nil {
		return nil
	}
	return s.governor.Waited
}

func (s *settings) level() (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return 0, fmt.Errorf("log_level %q: expected debug, info, warn or error", s.logLevel)
	}
	return level, nil
}

// logger returns the logger that the settings ask for.
func (s *settings) logger(std streams) (*slog.Logger, error) {
	level, err := s.level()
	if err != nil {
		return nil, err
	}
	s.levelVar.Set(level)
	options := &slog.HandlerOptions{Level: &s.levelVar}
	switch s.logForm {
	case "text":
		return slog.New(slog.NewTextHandler(std.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(std.err, options)), nil
	}
	return nil, fmt.Errorf("log_format %q: expected text or json", s.logForm)
}

// The files of a data folder.
func (s *settings) keysFile() string    { return filepath.Join(s.data, "keys.db") }
func (s *settings) stateFile() string   { return filepath.Join(s.data, "state.db") }
func (s *settings) usageFile() string   { return filepath.Join(s.data, "usage.db") }
func (s *settings) controlPath() string { return filepath.Join(s.data, "control.sock") }

func (s *settings) neverBlocked() ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, len(s.blockNever))
	for i, text := range s.blockNever {
		prefix, err := apikey.ParseAddressPrefix(text)
		if err != nil {
			return nil, fmt.Errorf("block_never[%d] %q: %w", i, text, err)
		}
		prefixes[i] = prefix
	}
	return prefixes, nil
}

func (s *settings) uncounted() ([]apikey.Reason, error) {
	reasons := make([]apikey.Reason, 0, len(s.blockIgnore))
	for i, text := range s.blockIgnore {
		var known []string
		for _, reason := range extauthz.CountedReasons() {
			known = append(known, reason.String())
			if reason.String() == text {
				reasons = append(reasons, reason)
			}
		}
		if !slices.Contains(known, text) {
			return nil, fmt.Errorf("block_ignore[%d] %q: expected one of %s", i, text, strings.Join(known, ", "))
		}
	}
	return reasons, nil
}

// serverOptions are the settings of the ext_authz server.
func (s *settings) serverOptions(logger *slog.Logger) (extauthz.Options, error) {
	address, err := parseClientAddress(s.clientAddress)
	if err != nil {
		return extauthz.Options{}, err
	}
	headers := make([]string, len(s.keyHeaders))
	for i, name := range s.keyHeaders {
		headers[i] = strings.ToLower(name)
	}
	return extauthz.Options{
		Sources: extauthz.CredentialSources{Headers: headers, QueryParameter: s.keyQuery, Bearer: s.keyBearer},
		Address: address,
		Identity: extauthz.IdentityHeaders{
			KeyID:   strings.ToLower(s.headerKeyID),
			KeyName: strings.ToLower(s.headerKeyName),
			Owner:   strings.ToLower(s.headerOwner),

			Metadata: strings.ToLower(s.headerMeta),
		},
		RemoveUnderscored: s.removeUnderscored,

		LimitStatus:     s.limitStatus,
		ObserveRequests: s.decisionLog != "",
		Logger:          logger,
	}, nil
}

// adminOptions are the settings of the admin API.
func (s *settings) adminOptions() admin.Options {
	return admin.Options{
		Version: versionText(), SessionTTL: s.sessionTTL, SessionIdle: s.sessionIdle, DefaultRateLimit: s.defaultRateLimit, AllowedHosts: s.adminHosts,
		ListenAddress: s.adminListen, PublicURL: s.adminURL(), ClientAddressHeader: s.adminAddressHeader,
		Strict: s.strict, LimitStatus: s.limitStatus,
	}
}

func parseClientAddress(text string) (extauthz.ClientAddress, error) {
	mode, argument, hasArgument := strings.Cut(text, ":")
	switch {
	case mode == "peer" && !hasArgument:
		return extauthz.ClientAddress{Mode: extauthz.AddressPeer}, nil
	case mode == "header" && argument != "":
		return extauthz.ClientAddress{Mode: extauthz.AddressHeader, Header: strings.ToLower(argument)}, nil
	case mode == "forwarded":
		if hops, err := strconv.Atoi(argument); err == nil && hops >= 0 {
			return extauthz.ClientAddress{Mode: extauthz.AddressForwarded, TrustedHops: hops}, nil
		}
	}
	return extauthz.ClientAddress{}, fmt.Errorf("client_address %q: %w", text, errors.New("expected peer, header:NAME or forwarded:N"))
}
