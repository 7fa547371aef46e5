package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/tokenkithq/authz/apikey"
)

// AdminPrefix starts the paths that the admin API serves. They are the only
// ones that need no API key.
const AdminPrefix = "/api/users/auth/"

// Options say what differs between installations. The zero value serves
// loopback only, with the addresses that "tokenkit-authz serve" uses.
type Options struct {
	// Listen is the host:port that clients connect to; the host is an IP
	// address. Empty: "127.0.0.1:10000".
	Listen string
	// TLS is the certificate that clients are shown. Zero: no TLS.
	TLS TLS
	// EnvoyAdmin is the host:port of Envoy's own admin interface, on a
	// loopback address since it can stop Envoy. Empty: none.
	EnvoyAdmin string

	// Authz are the authorization services, each a host:port or a Unix socket
	// as "unix:/path"; not both kinds. Nil: "127.0.0.1:9001".
	Authz []string
	// AuthzTLS is how they are spoken to. Zero: without TLS.
	AuthzTLS ServiceTLS
	// AuthzTimeout bounds one decision; what takes longer is answered with
	// 503. Zero: 250 ms.
	AuthzTimeout time.Duration
	// AdminAPI is the host:port of the admin API, which gets the requests
	// below [AdminPrefix] and needs no key for them. Empty: "127.0.0.1:9002".
	AdminAPI string
	// AdminTLS is how it is spoken to. Zero: without TLS.
	AdminTLS ServiceTLS
	// TLSSecrets is a folder with the files that [RenderSecrets] returned, so
	// that PEM files of AuthzTLS and AdminTLS are read anew when they change.
	// Empty: they are read when Envoy starts.
	TLSSecrets string
	// Upstream is the host:port of the API to protect, which gets all other
	// requests. Empty: "127.0.0.1:8080".
	Upstream string
	// UpstreamProtocol is what the upstream is spoken to in. Empty: [HTTP1].
	UpstreamProtocol Protocol
	// UpstreamTimeout bounds the time from the end of a request to the end of
	// its answer; long answers, such as streams of gRPC, need more or none.
	// Zero: 60 s. Negative: none.
	UpstreamTimeout time.Duration
	// Routes are the paths of the upstream that have rules of their own. All
	// other paths need a key, any key, and cost one call.
	Routes []Route

	// KeyHeaders are the headers that may carry a key, in lower case; the
	// service must be told the same. Nil: "api-key".
	KeyHeaders []string
	// Bearer shows the Authorization header to the service, which must be
	// told to take keys from it. Otherwise the service never sees it.
	Bearer bool
	// ClientAddressHeader is set to the client's address as Envoy trusts it,
	// whatever the client sent, for the service (--client-address
	// header:x-client-ip), the admin API and the upstream. Lower case.
	// Empty: "x-client-ip".
	ClientAddressHeader string
	// TrustedHops is how many proxies stand before this Envoy, each of which
	// appends the address of its own client to x-forwarded-for. Zero: clients
	// connect to this Envoy, and what they say of x-forwarded-for is
	// not believed.
	TrustedHops int
	// Identity names the headers that tell the upstream whose key was used;
	// the service must be told the same.
	Identity Identity

	// Origins are the web origins whose pages a browser lets read answers.
	// Empty: any, since each key has its own list of origins.
	Origins []string
	// CORSHeaders are request headers that pages may send, besides the key
	// headers, Authorization, Content-Type and X-Origin.
	CORSHeaders []string

	// EncodeRawHeaders sends headers to the service as bytes, each on its
	// own, instead of joined and cleaned of what is not UTF-8.
	EncodeRawHeaders bool
	// RequestID shows the service x-request-id, which its decision log and
	// Envoy's access log then have in common. Envoy sets it, whatever the client
	// sent. It is one more header of every Check, of about 60 bytes.
	RequestID bool
	// AccessLog is a file to log requests to as JSON, without their queries;
	// "/dev/stdout" is standard output. Empty: none.
	AccessLog string
	// RateLimit asks a second service how fast a key may call. Zero: none.
	RateLimit RateLimit

	// Kubernetes says where in a cluster things are, for [RenderIstio] and
	// [RenderGateway]; a bootstrap needs nothing of it.
	Kubernetes Kubernetes
}

// Identity names the headers that tell the upstream whose key was used, in
// lower case. An empty name stands for its default, see [DefaultIdentity].
type Identity struct {
	KeyID    string
	KeyName  string
	Owner    string
	Metadata string
}

// DefaultIdentity returns the default names.
func DefaultIdentity() Identity {
	return Identity{KeyID: "x-api-key-id", KeyName: "x-api-key-name", Owner: "x-api-key-owner", Metadata: "x-api-key-metadata"}
}

// Names returns all that are not empty.
func (i Identity) Names() []string {
	return slices.DeleteFunc([]string{i.KeyID, i.KeyName, i.Owner, i.Metadata}, func(name string) bool { return name == "" })
}

func orDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// Complete returns o with its defaults filled in, or an error that names the
// first option that is wrong and what was expected.
func (o Options) Complete() (Options, error) {
	orDefault(&o.Listen, "127.0.0.1:10000")
	if o.Authz == nil {
		o.Authz = []string{"127.0.0.1:9001"}
	}
	orDefault(&o.AuthzTimeout, 250*time.Millisecond)
	orDefault(&o.AdminAPI, "127.0.0.1:9002")
	orDefault(&o.Upstream, "127.0.0.1:8080")
	orDefault(&o.UpstreamProtocol, HTTP1)
	orDefault(&o.UpstreamTimeout, time.Minute)
	if o.KeyHeaders == nil {
		o.KeyHeaders = []string{"api-key"}
	}
	orDefault(&o.ClientAddressHeader, "x-client-ip")
	identity := DefaultIdentity()
	orDefault(&o.Identity.KeyID, identity.KeyID)
	orDefault(&o.Identity.KeyName, identity.KeyName)
	orDefault(&o.Identity.Owner, identity.Owner)
	orDefault(&o.Identity.Metadata, identity.Metadata)
	orDefault(&o.RateLimit.Domain, "tokenkit")
	orDefault(&o.RateLimit.Timeout, 100*time.Millisecond)
	o.Kubernetes = o.Kubernetes.withDefaults()
	if err := o.check(); err != nil {
		return o, fmt.Errorf("envoy: %w", err)
	}
	return o, nil
}

func (o *Options) check() error {
	if _, err := ipAndPort(o.Listen); err != nil {
		return fmt.Errorf("option Listen %q: %w", o.Listen, err)
	}
	if o.EnvoyAdmin != "" {
		address, err := ipAndPort(o.EnvoyAdmin)
		if err != nil {
			return fmt.Errorf("option EnvoyAdmin %q: %w", o.EnvoyAdmin, err)
		}
		if !address.Addr().IsLoopback() {
			return fmt.Errorf("option EnvoyAdmin %q: expected a loopback address, since whoever reaches it can stop Envoy", o.EnvoyAdmin)
		}
	}
	if _, err := endpointsOf(o.Authz); err != nil {
		return fmt.Errorf("option Authz: %w", err)
	}
	for name, target := range map[string]string{"AdminAPI": o.AdminAPI, "Upstream": o.Upstream} {
		if _, err := parseEndpoint(target); err != nil {
			return fmt.Errorf("option %s %q: %w", name, target, err)
		}
	}
	if o.AuthzTimeout < time.Millisecond {
		return fmt.Errorf("option AuthzTimeout %v: expected at least 1ms", o.AuthzTimeout)
	}
	if err := o.UpstreamProtocol.check(); err != nil {
		return fmt.Errorf("option UpstreamProtocol %q: %w", o.UpstreamProtocol, err)
	}
	if err := o.TLS.check(); err != nil {
		return fmt.Errorf("option TLS: %w", err)
	}
	if err := checkServiceTLS(o); err != nil {
		return err
	}
	if err := o.RateLimit.check(); err != nil {
		return fmt.Errorf("option RateLimit: %w", err)
	}
	if err := o.Kubernetes.check(); err != nil {
		return fmt.Errorf("option Kubernetes: %w", err)
	}
	if err := checkRoutes(o.Routes); err != nil {
		return fmt.Errorf("option Routes: %w", err)
	}
	if o.TrustedHops < 0 || o.TrustedHops > 100 {
		return fmt.Errorf("option TrustedHops %d: expected 0 to 100", o.TrustedHops)
	}
	for _, origin := range o.Origins {
		if _, err := apikey.ParseOrigin(origin); err != nil {
			return fmt.Errorf("option Origins %q: expected an origin such as https://app.example.io", origin)
		}
	}
	return o.checkHeaders()
}

func (o *Options) checkHeaders() error {
	if len(o.KeyHeaders) == 0 && !o.Bearer {
		// A key in the query is possible, but then nothing is lost by naming
		// a header as well.
		return errors.New("option KeyHeaders: expected at least one name")
	}
	set := append([]string{o.ClientAddressHeader}, o.Identity.Names()...)
	for _, name := range slices.Concat(o.KeyHeaders, set, o.CORSHeaders) {
		if !httpguts.ValidHeaderFieldName(name) || name != strings.ToLower(name) || strings.Contains(name, "_") {
			return fmt.Errorf("header %q: expected a header name in lower case, without underscores", name)
		}
	}
	own := slices.Concat(o.KeyHeaders, set)
	slices.Sort(own)
	for i, name := range own {
		if i > 0 && own[i-1] == name {
			return fmt.Errorf("header %q: expected one use of each name", name)
		}
		if slices.Contains([]string{"authorization", "host", "origin", "x-origin", "x-forwarded-for", "content-length", "connection", "transfer-encoding"}, name) {
			return fmt.Errorf("header %q: expected a name that has no other meaning", name)
		}
	}
	return nil
}

func ipAndPort(text string) (netip.AddrPort, error) {
	address, err := netip.ParseAddrPort(text)
	if err != nil || address.Addr().Zone() != "" {
		return netip.AddrPort{}, errors.New("expected an IP address and a port, such as 127.0.0.1:10000")
	}
	return address, nil
}
