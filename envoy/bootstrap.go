package envoy

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	downstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The names of the clusters.
const (
	authzCluster    = "authz"
	adminCluster    = "admin-api"
	upstreamCluster = "upstream"
)

// authzService is the gRPC service whose health is asked for.
const authzService = "envoy.service.auth.v3.Authorization"

// Limits that keep one client from using up Envoy, from Envoy's guide to
// running at the edge.
const (
	maxConnections        = 50_000
	connectionBufferBytes = 32 << 10
	maxStreams            = 100
	streamWindowBytes     = 64 << 10
	connectionWindowBytes = 1 << 20
)

// Limits on streams that are opened and reset at once, which maxStreams does
// not bound.
const (
	// maxRequestsPerCycle is how many requests of one connection a worker
	// begins before it looks after the others. The fewer, the less is answered
	// to one that has many under way: see the decision on floods.
	maxRequestsPerCycle = 3
	// maxPrematureResets is after how many streams a connection is closed most
	// of which were reset within a second. A proxy before this Envoy has many
	// clients on one, of which one could end it for all.
	maxPrematureResets = 30
)

// maxCalls bounds the calls under way to one cluster; Envoy's own limit of
// 1,024 turns a short stall of a busy service into errors.
const maxCalls = 10_000

// Bootstrap returns the configuration that o describes. Its error names the
// option that is wrong and what was expected.
func Bootstrap(o Options) (*bootstrapv3.Bootstrap, error) {
	o, err := o.Complete()
	if err != nil {
		return nil, err
	}
	b := &builder{Options: o}
	bootstrap := b.bootstrap()
	if b.err != nil {
		return nil, fmt.Errorf("packing Envoy configuration: %w", b.err)
	}
	return bootstrap, nil
}

// builder holds complete options and the first error of [builder.any].
type builder struct {
	Options
	err error
}

func (b *builder) any(message proto.Message) *anypb.Any {
	// Deterministic, since a map inside would otherwise differ each time.
	packed := &anypb.Any{}
	if err := anypb.MarshalFrom(packed, message, proto.MarshalOptions{Deterministic: true}); err != nil && b.err == nil {
		b.err = err
	}
	return packed
}

func (b *builder) bootstrap() *bootstrapv3.Bootstrap {
	bootstrap := &bootstrapv3.Bootstrap{
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: []*listenerv3.Listener{b.listener()},
			Clusters:  b.clusters(),
		},
		OverloadManager: &overloadv3.OverloadManager{
			ResourceMonitors: []*overloadv3.ResourceMonitor{{
				Name: "envoy.resource_monitors.global_downstream_max_connections",
				ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: b.any(
					&downstreamv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: maxConnections})},
			}},
		},
		LayeredRuntime: b.runtime(),
	}
	if b.TLSSecrets != "" { // Envoy asks nobody for secrets without a name of its own
		bootstrap.Node = &corev3.Node{Id: "tokenkit", Cluster: "tokenkit"}
	}
	if b.EnvoyAdmin != "" {
		address := netip.MustParseAddrPort(b.EnvoyAdmin)
		bootstrap.Admin = &bootstrapv3.Admin{Address: socketAddress(address.Addr().String(), address.Port())}
	}
	return bootstrap
}

// runtime returns the switches of Envoy that have no other place.
func (b *builder) runtime() *bootstrapv3.LayeredRuntime {
	switches := map[string]any{"http.max_requests_per_io_cycle": maxRequestsPerCycle}
	if b.TrustedHops == 0 {
		switches["overload.premature_reset_total_stream_count"] = maxPrematureResets
	}
	layer, err := structpb.NewStruct(switches)
	if err != nil && b.err == nil {
		b.err = err
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name:           "limits",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: layer},
	}}}
}

func (b *builder) listener() *listenerv3.Listener {
	address := netip.MustParseAddrPort(b.Listen)
	return &listenerv3.Listener{
		Name:                          "front",
		Address:                       socketAddress(address.Addr().String(), address.Port()),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBufferBytes),
		FilterChains: []*listenerv3.FilterChain{{
			Filters: []*listenerv3.Filter{{
				Name:       "envoy.filters.network.http_connection_manager",
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.any(b.connectionManager())},
			}},
			TransportSocket: b.transportSocket(),
		}},
	}
}

// clusters are all that the routes and filters name.
func (b *builder) clusters() []*clusterv3.Cluster {
	upstream := b.cluster(upstreamCluster, b.Upstream)
	b.speak(upstream, b.UpstreamProtocol, &corev3.Http2ProtocolOptions{AllowConnect: true})
	adminAPI := b.cluster(adminCluster, b.AdminAPI)
	b.encrypt(adminAPI, b.AdminTLS, "http/1.1", b.AdminAPI)
	all := []*clusterv3.Cluster{b.authz(), adminAPI, upstream}
	if b.RateLimit.Service != "" {
		all = append(all, b.rateLimitCluster())
	}
	return all
}

// authz is the cluster of the authorization services.
func (b *builder) authz() *clusterv3.Cluster {
	cluster := b.cluster(authzCluster, b.Authz...)
	b.encrypt(cluster, b.AuthzTLS, "h2", b.Authz...)
	b.speak(cluster, HTTP2, &corev3.Http2ProtocolOptions{
		ConnectionKeepalive: &corev3.KeepaliveSettings{
			Interval: durationpb.New(30 * time.Second),
			Timeout:  durationpb.New(5 * time.Second),
		},
	})
	cluster.HealthChecks = []*corev3.HealthCheck{{
		Timeout:            durationpb.New(time.Second),
		Interval:           durationpb.New(2 * time.Second),
		IntervalJitter:     durationpb.New(200 * time.Millisecond),
		NoTrafficInterval:  durationpb.New(2 * time.Second),
		UnhealthyInterval:  durationpb.New(time.Second),
		UnhealthyThreshold: wrapperspb.UInt32(2),
		HealthyThreshold:   wrapperspb.UInt32(1),
		HealthChecker: &corev3.HealthCheck_GrpcHealthCheck_{
			GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{ServiceName: authzService},
		},
	}}
	// Only with no healthy service at all are the unhealthy ones tried: one
	// that is about to stop still decides, and one that is gone fails closed.
	cluster.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 1}}
	return cluster
}

// cluster returns a cluster of targets that [Options.check] has accepted.
func (b *builder) cluster(name string, targets ...string) *clusterv3.Cluster {
	endpoints, err := endpointsOf(targets)
	if err != nil && b.err == nil {
		b.err = err
	}
	cluster := &clusterv3.Cluster{
		Name:                          name,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:                durationpb.New(time.Second),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBufferBytes),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(maxCalls),
			MaxPendingRequests: wrapperspb.UInt32(maxCalls),
			MaxRequests:        wrapperspb.UInt32(maxCalls),
		}}},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name},
	}
	if slices.ContainsFunc(endpoints, func(e endpoint) bool { return !e.static }) {
		cluster.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
		cluster.DnsLookupFamily = clusterv3.Cluster_V4_PREFERRED
	}
	locality := &endpointv3.LocalityLbEndpoints{}
	for _, e := range endpoints {
		address := socketAddress(e.host, e.port)
		if e.socket != "" {
			address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.socket}}}
		}
		locality.LbEndpoints = append(locality.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}},
		})
	}
	cluster.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{locality}
	return cluster
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}
