package main

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tokenkithq/authz/envoy"
)

// listenFlags are about the Envoy itself.
func listenFlags(f *pflag.FlagSet, o *envoy.Options) {
	f.StringVar(&o.Listen, "listen", "127.0.0.1:10000", "address that clients connect to")
	f.StringVar(&o.TLS.Certificate, "tls-cert", "", "PEM file, where Envoy runs, of the certificate to show (default: no TLS)")
	f.StringVar(&o.TLS.Key, "tls-key", "", "PEM file, where Envoy runs, of its private key")
	f.StringVar(&o.EnvoyAdmin, "envoy-admin", "", "loopback address of Envoy's own admin interface (default: none)")
	f.Var(protocolValue{&o.UpstreamProtocol}, "upstream-protocol", "http1, http2 for gRPC, or client for what the client speaks (default http1)")
}

// addresses are the defaults of [addressFlags]; an empty one has no flag.
type addresses struct{ authz, adminAPI, upstream string }

func addressFlags(f *pflag.FlagSet, o *envoy.Options, defaults addresses) {
	f.StringSliceVar(&o.Authz, "authz", []string{defaults.authz}, "the service's Check addresses, host:port or, for an Envoy of your own, unix:/path; may be repeated there")
	if defaults.authz != envoy.ClusterAuthz {
		serviceTLSFlags(f, o)
	}
	f.DurationVar(&o.AuthzTimeout, "authz-timeout", 0, "how long one decision may take (default 250ms)")
	if defaults.adminAPI != "" {
		f.StringVar(&o.AdminAPI, "admin-api", defaults.adminAPI, "address of the admin API")
		f.DurationVar(&o.UpstreamTimeout, "upstream-timeout", 0, "how long an answer of the upstream may take; negative: any time (default 1m0s)")
	}
	if defaults.upstream != "" {
		f.StringVar(&o.Upstream, "upstream", defaults.upstream, "address of the API to protect")
	}
	f.Var(&routesValue{&o.Routes}, "route", "path with rules of its own, each of public, anonymous, scope=NAME, cost=N; may be repeated")
}

// serviceTLSFlags are about TLS to the service, by files where Envoy runs.
func serviceTLSFlags(f *pflag.FlagSet, o *envoy.Options) {
	for _, one := range []struct {
		prefix, of string
		tls        *envoy.ServiceTLS
	}{{"authz", "the service", &o.AuthzTLS}, {"admin-api", "the admin API", &o.AdminTLS}} {
		f.StringVar(&one.tls.CA, one.prefix+"-tls-ca", "", "PEM file, where Envoy runs, of the authorities of the certificate of "+one.of+" (default: no TLS)")
		f.StringSliceVar(&one.tls.Names, one.prefix+"-tls-name", nil, "name that it must have; may be repeated (default: the host that is connected to)")
		f.StringVar(&one.tls.Certificate, one.prefix+"-tls-cert", "", "PEM file, where Envoy runs, of the certificate that Envoy shows there (default: none)")
		f.StringVar(&one.tls.Key, one.prefix+"-tls-key", "", "PEM file, where Envoy runs, of its private key")
	}
	f.StringVar(&o.TLSSecrets, "tls-secrets", "", "folder, where Envoy runs, with what \"envoy secrets\" writes, so that changed PEM files are read anew (default: they are read once)")
}

// filterFlags are about what the filters of an Envoy do.
func filterFlags(f *pflag.FlagSet, o *envoy.Options) {
	headerFlags(f, o)
	f.StringVar(&o.ClientAddressHeader, "client-address-header", "x-client-ip", "header that Envoy sets to the client's address")
	f.IntVar(&o.TrustedHops, "trusted-hops", 0, "trusted proxies before this Envoy")
	f.BoolVar(&o.EncodeRawHeaders, "encode-raw-headers", false, "send headers to the service as bytes")
	f.StringVar(&o.AccessLog, "access-log", "", "file to log requests to as JSON, such as /dev/stdout (default: none)")
	f.StringVar(&o.RateLimit.Service, "rate-limit", "", "address of a service of Envoy's rate limit API, asked with each key's id (default: none)")
	f.StringVar(&o.RateLimit.Domain, "rate-limit-domain", "tokenkit", "domain that it is asked for")
	f.DurationVar(&o.RateLimit.Timeout, "rate-limit-timeout", 100*time.Millisecond, "how long its answer may take")
}

// headerFlags are what must be as the service is told, and what pages may do.
func headerFlags(f *pflag.FlagSet, o *envoy.Options) {
	f.StringSliceVar(&o.KeyHeaders, "key-headers", []string{"api-key"}, "headers that may carry a key, as the service is told")
	f.BoolVar(&o.Bearer, "key-bearer", false, "show Authorization to the service, as it is told")
	f.BoolVar(&o.RequestID, "request-id", false, "show x-request-id to the service, so that its decision log and Envoy's access log can be joined")
	identity := envoy.DefaultIdentity()
	f.StringVar(&o.Identity.KeyID, "header-key-id", identity.KeyID, "header with the key's id, as the service is told")
	f.StringVar(&o.Identity.KeyName, "header-key-name", identity.KeyName, "header with the key's name, as the service is told")
	f.StringVar(&o.Identity.Owner, "header-owner", identity.Owner, "header with the key's owner, as the service is told")
	f.StringVar(&o.Identity.Metadata, "header-metadata", identity.Metadata, "header with the key's metadata, as the service is told")
	f.StringSliceVar(&o.Origins, "origin", nil, "web origin whose pages may read answers; may be repeated (default: any)")
	f.StringSliceVar(&o.CORSHeaders, "cors-header", nil, "further request header that pages may send; may be repeated")
}

func kubernetesFlags(f *pflag.FlagSet, o *envoy.Options) {
	f.StringVar(&o.Kubernetes.Namespace, "namespace", "default", "namespace of the gateway")
	f.StringVar(&o.Kubernetes.Gateway, "gateway", "gateway", "name of the Gateway that asks")
}

// routesValue is a flag that each use of adds one route to.
type routesValue struct{ routes *[]envoy.Route }

func (v *routesValue) Set(text string) error {
	route, err := envoy.ParseRoute(text)
	if err != nil {
		return err
	}
	*v.routes = append(*v.routes, route)
	return nil
}

func (v *routesValue) Type() string { return "route" }

func (v *routesValue) String() string {
	if v.routes == nil {
		return ""
	}
	paths := make([]string, len(*v.routes))
	for i, r := range *v.routes {
		paths[i] = r.Path
	}
	return strings.Join(paths, ", ")
}

// protocolValue is a flag for a protocol.
type protocolValue struct{ protocol *envoy.Protocol }

func (v protocolValue) Set(text string) error {
	switch p := envoy.Protocol(text); p {
	case envoy.HTTP1, envoy.HTTP2, envoy.SameAsClient:
		*v.protocol = p
		return nil
	}
	return errors.New("expected http1, http2 or client")
}

func (v protocolValue) Type() string { return "string" }

func (v protocolValue) String() string {
	if v.protocol == nil {
		return ""
	}
	return string(*v.protocol)
}
