package envoy

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	rateLimitFilter  = "envoy.filters.http.ratelimit"
	rateLimitCluster = "ratelimit"
)

// RateLimit asks a service of Envoy's rate limit API, after the key was found
// good, with one descriptor: "key_id", the id of the key. So limits a second or
// a minute can stand beside the hourly one. Requests without a key, where
// routes let them pass, are not asked about. The zero RateLimit asks nobody.
type RateLimit struct {
	// Service is the host:port of the service. Empty: none.
	Service string
	// Domain is the service's name for this set of limits. Empty: "tokenkit".
	Domain string
	// Timeout bounds one answer; a service that does not answer denies, with
	// 503. Zero: 100 ms.
	Timeout time.Duration
}

func (r *RateLimit) check() error {
	if r.Service != "" {
		if _, err := parseEndpoint(r.Service); err != nil {
			return fmt.Errorf("service %q: %w", r.Service, err)
		}
	}
	if r.Timeout < time.Millisecond {
		return errors.New("expected a timeout of at least 1ms")
	}
	return nil
}

func (b *builder) rateLimitCluster() *clusterv3.Cluster {
	cluster := b.cluster(rateLimitCluster, b.RateLimit.Service)
	b.speak(cluster, HTTP2, &corev3.Http2ProtocolOptions{})
	return cluster
}

func (b *builder) rateLimit() *ratelimitv3.RateLimit {
	return &ratelimitv3.RateLimit{
		Domain:                         b.RateLimit.Domain,
		Timeout:                        durationpb.New(b.RateLimit.Timeout),
		FailureModeDeny:                true,
		StatusOnError:                  &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		RateLimitedAsResourceExhausted: true,
		RateLimitService: &ratelimitconfigv3.RateLimitServiceConfig{
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: rateLimitCluster},
			}},
			TransportApiVersion: corev3.ApiVersion_V3,
		},
	}
}

// rateLimits is what the rate limit service is told of a request: the key's id,
// which the decision left in the request's metadata.
func (b *builder) rateLimits() []*routev3.RateLimit {
	if b.RateLimit.Service == "" {
		return nil
	}
	return []*routev3.RateLimit{{
		Actions: []*routev3.RateLimit_Action{{
			ActionSpecifier: &routev3.RateLimit_Action_Metadata{Metadata: &routev3.RateLimit_Action_MetaData{
				DescriptorKey: "key_id",
				MetadataKey: &metadatav3.MetadataKey{
					Key: authzFilter,
					Path: []*metadatav3.MetadataKey_PathSegment{{
						Segment: &metadatav3.MetadataKey_PathSegment_Key{Key: "key_id"},
					}},
				},
				Source: routev3.RateLimit_Action_MetaData_DYNAMIC,
			}},
		}},
	}}
}
