package envoy

import (
	"slices"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	headersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The names of the filters.
const (
	headersFilter = "envoy.filters.http.header_mutation"
	corsFilter    = "envoy.filters.http.cors"
	authzFilter   = "envoy.filters.http.ext_authz"
	routerFilter  = "envoy.filters.http.router"
)

func (b *builder) connectionManager() *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "front",
		AccessLog:  b.accessLog(),

		// The address of the connection is appended to x-forwarded-for, and
		// of what was there already only the trusted hops are believed.
		UseRemoteAddress:  wrapperspb.Bool(true),
		XffNumTrustedHops: uint32(b.TrustedHops),
		// No client is internal, so none may steer Envoy with x-envoy headers.
		// An empty list would mean all private addresses.
		InternalAddressConfig: &hcmv3.HttpConnectionManager_InternalAddressConfig{
			CidrRanges: []*corev3.CidrRange{{AddressPrefix: "0.0.0.0", PrefixLen: wrapperspb.UInt32(32)}},
		},

		// What is routed is what the upstream sees, so that a path cannot
		// look like the admin API's here and like another one there.
		NormalizePath:                wrapperspb.Bool(true),
		MergeSlashes:                 true,
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_REJECT_REQUEST,

		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: durationpb.New(5 * time.Minute),
			// Many servers read x_api_key as x-api-key.
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			MaxConcurrentStreams:        wrapperspb.UInt32(maxStreams),
			InitialStreamWindowSize:     wrapperspb.UInt32(streamWindowBytes),
			InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindowBytes),
		},
		RequestHeadersTimeout: durationpb.New(10 * time.Second),
		StreamIdleTimeout:     durationpb.New(5 * time.Minute),
		UpgradeConfigs:        []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},

		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: b.routes()},
		HttpFilters:    b.filters(),
	}
}

func (b *builder) filters() []*hcmv3.HttpFilter {
	filters := []*hcmv3.HttpFilter{
		b.filter(headersFilter, b.trustedHeaders()),
		b.filter(corsFilter, &corsv3.Cors{}),
		b.filter(authzFilter, b.extAuthz()),
	}
	if b.RateLimit.Service != "" {
		filters = append(filters, b.filter(rateLimitFilter, b.rateLimit()))
	}
	return append(filters, b.filter(routerFilter, &routerv3.Router{}))
}

func (b *builder) filter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.any(config)}}
}

// trustedHeaders sets the client's address and removes what a client must not
// say itself. The service does the latter too; two mistakes are needed then.
func (b *builder) trustedHeaders() *headersv3.HeaderMutation {
	mutations := []*mutationv3.HeaderMutation{{
		Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: b.ClientAddressHeader, Value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}}
	for _, name := range b.Identity.Names() {
		mutations = append(mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
	}
	return &headersv3.HeaderMutation{Mutations: &headersv3.Mutations{RequestMutations: mutations}}
}

func (b *builder) extAuthz() *authzv3.ExtAuthz {
	return &authzv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		StatPrefix:          "tokenkit",
		Services: &authzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: authzCluster}},
			Timeout:         durationpb.New(b.AuthzTimeout),
			// A decision that was made spends a call of the key's limit, so
			// only calls that never reached a service are repeated.
			RetryPolicy: &corev3.RetryPolicy{
				RetryOn:    "connect-failure,refused-stream",
				NumRetries: wrapperspb.UInt32(1),
				RetryBackOff: &corev3.BackoffStrategy{
					BaseInterval: durationpb.New(min(5*time.Millisecond, b.AuthzTimeout)),
					// Envoy takes this for the timeout of each try as well: any
					// less than the whole timeout would cut decisions short.
					MaxInterval: durationpb.New(b.AuthzTimeout),
				},
			},
		}},
		FailureModeAllow: false,
		StatusOnError:    &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		ClearRouteCache:  false,
		EncodeRawHeaders: b.EncodeRawHeaders,
		AllowedHeaders:   &matcherv3.ListStringMatcher{Patterns: exactly(b.CheckedHeaders())},
	}
}

// CheckedHeaders returns the request headers that the service is shown: those
// that it decides and answers by, the id of the request where that is asked
// for, and no cookie or session token. A client of gRPC is known by its content
// type. The options must be complete.
func (o *Options) CheckedHeaders() []string {
	names := append(slices.Clone(o.KeyHeaders), "content-type", "origin", "x-origin", "x-forwarded-for", o.ClientAddressHeader)
	if o.Bearer && !slices.Contains(names, "authorization") {
		names = append(names, "authorization")
	}
	if o.RequestID {
		names = append(names, "x-request-id")
	}
	return names
}

func exactly(texts []string) []*matcherv3.StringMatcher {
	matchers := make([]*matcherv3.StringMatcher, len(texts))
	for i, text := range texts {
		matchers[i] = &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}}
	}
	return matchers
}

func (b *builder) routes() *routev3.RouteConfiguration {
	routes := []*routev3.Route{{
		Name:   "admin-api",
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: AdminPrefix}},
		Action: b.routeTo(adminCluster),
		TypedPerFilterConfig: map[string]*anypb.Any{
			authzFilter: b.perRoute(&Route{Public: true}),
		},
	}}
	for _, r := range longestFirst(b.Routes) {
		routes = append(routes, b.upstreamRoute(r.Path, r))
	}
	routes = append(routes, b.upstreamRoute("protected", Route{Path: "/"}))
	return &routev3.RouteConfiguration{
		Name: "front",
		VirtualHosts: []*routev3.VirtualHost{{
			Name:    "front",
			Domains: []string{"*"},
			Routes:  routes,
		}},
	}
}

func (b *builder) routeTo(cluster string) *routev3.Route_Route {
	return &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
		Timeout:          durationpb.New(max(b.UpstreamTimeout, 0)),
	}}
}

func (b *builder) cors() *corsv3.CorsPolicy {
	origins := exactly(b.Origins)
	if len(origins) == 0 {
		origins = []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
			SafeRegex: &matcherv3.RegexMatcher{Regex: ".+"},
		}}}
	}
	return &corsv3.CorsPolicy{
		AllowOriginStringMatch: origins,
		AllowMethods:           CORSMethods,
		AllowHeaders:           strings.Join(CORSRequestHeaders(b.Options), ", "),
		ExposeHeaders:          CORSExposed,
		MaxAge:                 CORSMaxAge,
		// What is no preflight for an allowed origin must show a key.
		ForwardNotMatchingPreflights: wrapperspb.Bool(true),
	}
}

// What the answer to every preflight says.
const (
	CORSMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
	CORSExposed = "RateLimit, RateLimit-Policy, Retry-After"
	CORSMaxAge  = "600" // seconds
)

// CORSRequestHeaders returns the request headers that o lets web pages send.
func CORSRequestHeaders(o Options) []string {
	names := o.KeyHeaders
	if names == nil {
		names = []string{"api-key"}
	}
	for _, name := range append([]string{"authorization", "content-type", "x-origin"}, o.CORSHeaders...) {
		if !slices.Contains(names, name) {
			names = append(slices.Clip(names), name)
		}
	}
	return names
}

func (b *builder) accessLog() []*accesslogv3.AccessLog {
	if b.AccessLog == "" {
		return nil
	}
	values := map[string]*structpb.Value{}
	for name, format := range accessLogFields() {
		values[name] = structpb.NewStringValue(format)
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.file",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.any(&filelogv3.FileAccessLog{
			Path: b.AccessLog,
			AccessLogFormat: &filelogv3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: values}},
			}},
		})},
	}}
}

// accessLogFields are the fields of a line of the access log. Envoy's names
// for values must not show a query, which may hold a key.
func accessLogFields() map[string]string {
	return map[string]string{
		"time":       "%START_TIME%",
		"method":     "%REQ(:METHOD)%",
		"host":       "%REQ(:AUTHORITY)%",
		"path":       "%PATH(NQ)%",
		"protocol":   "%PROTOCOL%",
		"status":     "%RESPONSE_CODE%",
		"details":    "%RESPONSE_CODE_DETAILS%",
		"flags":      "%RESPONSE_FLAGS%",
		"bytes_in":   "%BYTES_RECEIVED%",
		"bytes_out":  "%BYTES_SENT%",
		"duration":   "%DURATION%", // milliseconds
		"client":     "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
		"request_id": "%REQ(X-REQUEST-ID)%",
		"key_id":     "%DYNAMIC_METADATA(" + authzFilter + ":key_id)%",
		"reason":     "%DYNAMIC_METADATA(" + authzFilter + ":reason)%",
	}
}
