package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// ServiceTLS is how a service is spoken to in TLS, by PEM files on the machine
// of the Envoy. The zero ServiceTLS is none.
type ServiceTLS struct {
	// CA holds the authorities that the service's certificate is issued by.
	CA string
	// Names are what the service's certificate must be for, at least one of
	// them: DNS names, IP addresses, or URIs. Nil: the hosts that are connected
	// to.
	Names []string
	// Certificate and Key are what this Envoy shows. Empty: nothing.
	Certificate, Key string
}

func (t *ServiceTLS) none() bool {
	return t.CA == "" && t.Certificate == "" && t.Key == "" && len(t.Names) == 0
}

func (t *ServiceTLS) check(targets []string) error {
	if t.none() {
		return nil
	}
	if t.CA == "" {
		return errors.New("expected a CA, since an encrypted connection to anybody is none to the service")
	}
	endpoints, err := endpointsOf(targets)
	if err != nil {
		return err
	}
	if endpoints[0].socket != "" {
		return errors.New("expected none for a Unix socket")
	}
	if slices.Contains(t.Names, "") {
		return errors.New("expected names that are not empty")
	}
	if !filepath.IsAbs(t.CA) {
		return errors.New("expected absolute paths")
	}
	return TLS{Certificate: t.Certificate, Key: t.Key}.check()
}

func checkServiceTLS(o *Options) error {
	if err := o.AuthzTLS.check(o.Authz); err != nil {
		return fmt.Errorf("option AuthzTLS: %w", err)
	}
	if err := o.AdminTLS.check([]string{o.AdminAPI}); err != nil {
		return fmt.Errorf("option AdminTLS: %w", err)
	}
	if o.TLSSecrets != "" && !filepath.IsAbs(o.TLSSecrets) {
		return fmt.Errorf("option TLSSecrets %q: expected an absolute path", o.TLSSecrets)
	}
	return nil
}

// encrypt makes a cluster's connections use TLS.
func (b *builder) encrypt(cluster *clusterv3.Cluster, t ServiceTLS, protocol string, targets ...string) {
	if t.none() {
		return
	}
	var hosts []string
	for _, target := range targets {
		if e, err := parseEndpoint(target); err == nil && !slices.Contains(hosts, e.host) {
			hosts = append(hosts, e.host)
		}
	}
	if t.Names == nil {
		t.Names = hosts
	}
	validation := &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: nameMatchers(t.Names)}
	common := &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
		AlpnProtocols: []string{protocol},
	}
	if b.TLSSecrets == "" {
		validation.TrustedCa = fileSource(t.CA)
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation}
		if t.Certificate != "" {
			common.TlsCertificates = []*tlsv3.TlsCertificate{{CertificateChain: fileSource(t.Certificate), PrivateKey: fileSource(t.Key)}}
		}
	} else {
		common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: validation, ValidationContextSdsSecretConfig: b.secret(cluster.GetName() + caSecret),
			},
		}
		if t.Certificate != "" {
			common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{b.secret(cluster.GetName() + certificateSecret)}
		}
	}
	tls := &tlsv3.UpstreamTlsContext{CommonTlsContext: common}
	for _, name := range slices.Concat(hosts, t.Names) {
		if _, err := netip.ParseAddr(name); err != nil && !strings.Contains(name, "://") {
			tls.Sni = name
			break
		}
	}
	cluster.TransportSocket = &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.any(tls)},
	}
}

func nameMatchers(names []string) []*tlsv3.SubjectAltNameMatcher {
	matchers := make([]*tlsv3.SubjectAltNameMatcher, len(names))
	for i, name := range names {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if strings.Contains(name, "://") {
			kind = tlsv3.SubjectAltNameMatcher_URI
		} else if _, err := netip.ParseAddr(name); err == nil {
			kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		}
		matchers[i] = &tlsv3.SubjectAltNameMatcher{
			SanType: kind, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
		}
	}
	return matchers
}

func fileSource(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}

// The ends of the names of secrets, which begin with a cluster's.
const (
	certificateSecret = "-certificate"
	caSecret          = "-ca"
)

func (b *builder) secret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
			PathConfigSource: &corev3.PathConfigSource{Path: filepath.Join(b.TLSSecrets, name+".yaml")},
		},
		ResourceApiVersion: corev3.ApiVersion_V3,
	}}
}

const secretHeader = `A secret of an Envoy that asks tokenkit-authz: read anew whenever a file is renamed into its folder.
Written by "tokenkit-authz envoy secrets"; change its flags rather than this file.`

// RenderSecrets returns, by their names in the folder [Options].TLSSecrets, the
// files that tell Envoy to read the PEM files of AuthzTLS and AdminTLS anew
// whenever something is renamed into the folders that these are in, as
// Kubernetes and certificate tools replace them. Without them Envoy reads PEM
// files only when it starts.
func RenderSecrets(o Options) (map[string][]byte, error) {
	o, err := o.Complete()
	if err != nil {
		return nil, err
	}
	if o.TLSSecrets == "" || o.AuthzTLS.none() && o.AdminTLS.none() {
		return nil, errors.New("envoy: options TLSSecrets, AuthzTLS, AdminTLS: expected a folder and what goes there")
	}
	b := &builder{Options: o}
	files := map[string][]byte{}
	add := func(secret *tlsv3.Secret) error {
		node, err := nodeOf(&discoveryv3.DiscoveryResponse{Resources: []*anypb.Any{b.any(secret)}})
		if err != nil {
			return err
		}
		files[secret.GetName()+".yaml"], err = encode(node, secretHeader)
		return err
	}
	folder := func(path string) *corev3.WatchedDirectory {
		return &corev3.WatchedDirectory{Path: filepath.Dir(path)}
	}
	for cluster, t := range map[string]ServiceTLS{authzCluster: o.AuthzTLS, adminCluster: o.AdminTLS} {
		if t.none() {
			continue
		}
		err := add(&tlsv3.Secret{Name: cluster + caSecret, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: fileSource(t.CA), WatchedDirectory: folder(t.CA)},
		}})
		if err == nil && t.Certificate != "" {
			err = add(&tlsv3.Secret{Name: cluster + certificateSecret, Type: &tlsv3.Secret_TlsCertificate{
				TlsCertificate: &tlsv3.TlsCertificate{
					CertificateChain: fileSource(t.Certificate), PrivateKey: fileSource(t.Key), WatchedDirectory: folder(t.Certificate),
				},
			}})
		}
		if err != nil {
			return nil, err
		}
	}
	return files, b.err
}
