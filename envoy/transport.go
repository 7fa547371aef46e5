package envoy

import (
	"errors"
	"path/filepath"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Protocol is the version of HTTP that an upstream is spoken to in.
type Protocol string

// The protocols.
const (
	// HTTP1 is HTTP/1.1, which any upstream but one for gRPC understands.
	HTTP1 Protocol = "http1"
	// HTTP2 is HTTP/2 without TLS, as servers for gRPC expect it. A WebSocket
	// reaches such an upstream as an extended CONNECT (RFC 8441).
	HTTP2 Protocol = "http2"
	// SameAsClient is HTTP/2 for clients that speak it and HTTP/1.1 for the
	// others: for an upstream that serves gRPC and WebSockets at one address.
	SameAsClient Protocol = "client"
)

func (p Protocol) check() error {
	switch p {
	case HTTP1, HTTP2, SameAsClient:
		return nil
	}
	return errors.New("expected http1, http2 or client")
}

// TLS names the PEM files, on the machine of the Envoy, that clients are shown.
// The Envoy reads them when it starts. The zero TLS is none.
type TLS struct {
	Certificate string // the certificate and those that it was issued with
	Key         string // its private key
}

func (t TLS) check() error {
	if (t.Certificate == "") != (t.Key == "") {
		return errors.New("expected both a certificate and a key")
	}
	for _, path := range []string{t.Certificate, t.Key} {
		if path != "" && !filepath.IsAbs(path) {
			return errors.New("expected absolute paths")
		}
	}
	return nil
}

// transportSocket is nil without TLS.
func (b *builder) transportSocket() *corev3.TransportSocket {
	if b.TLS == (TLS{}) {
		return nil
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.any(&tlsv3.DownstreamTlsContext{
			CommonTlsContext: &tlsv3.CommonTlsContext{
				TlsParams:       &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2},
				TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: fileSource(b.TLS.Certificate), PrivateKey: fileSource(b.TLS.Key)}},
				AlpnProtocols:   []string{"h2", "http/1.1"},
			},
		})},
	}
}

// speak makes a cluster's requests travel in p.
func (b *builder) speak(cluster *clusterv3.Cluster, p Protocol, http2 *corev3.Http2ProtocolOptions) {
	options := &httpv3.HttpProtocolOptions{}
	switch p {
	case HTTP1: // as Envoy does unless told otherwise
		return
	case HTTP2:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2},
			},
		}
	case SameAsClient:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{Http2ProtocolOptions: http2},
		}
	}
	cluster.TypedExtensionProtocolOptions = map[string]*anypb.Any{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": b.any(options),
	}
}
