package envoy

import (
	"fmt"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
)

const filterHeader = `What an Envoy that you have needs in order to ask tokenkit-authz, for Envoy 1.40: three parts to copy.
Written by "tokenkit-authz envoy filter"; change its flags rather than this file.`

// The parts of what [RenderFilter] returns, and where each belongs.
const (
	managerPart  = "http_connection_manager"
	routesPart   = "routes"
	clustersPart = "clusters"
)

var partComments = map[string]string{
	managerPart: `1. Into your HTTP connection manager. The filters come in this order before your others, and the router
stays the last one.`,
	routesPart: `2. Into the virtual hosts that are to be protected, before your own routes; "upstream" is your cluster. What
matches no route is not asked about, so let the last route match all.`,
	clustersPart: "3. Into your clusters.",
}

// RenderFilter returns as YAML what must be added to the configuration of an
// Envoy that exists already: settings and filters of its HTTP connection
// manager, routes and clusters. The options for Envoy's own addresses and for
// the upstream do not matter. Its errors are those of [Bootstrap].
func RenderFilter(o Options) ([]byte, error) {
	o, err := o.Complete()
	if err != nil {
		return nil, err
	}
	b := &builder{Options: o}
	document := &yaml.Node{Kind: yaml.MappingNode}
	add := func(name string, value *yaml.Node) {
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, HeadComment: partComments[name]}
		document.Content = append(document.Content, key, value)
	}
	manager, err := nodeOf(b.managerFragment())
	if err != nil {
		return nil, err
	}
	add(managerPart, manager)
	routes, err := nodesOf(b.routes().GetVirtualHosts()[0].GetRoutes())
	if err != nil {
		return nil, err
	}
	add(routesPart, routes)
	clusters := b.clusters()
	own := clusters[:0]
	for _, c := range clusters {
		if c.GetName() != upstreamCluster {
			own = append(own, c)
		}
	}
	list, err := nodesOf(own)
	if err != nil {
		return nil, err
	}
	add(clustersPart, list)
	if b.err != nil {
		return nil, fmt.Errorf("packing Envoy configuration: %w", b.err)
	}
	return encode(document, filterHeader)
}

// managerFragment is what decisions rest on in a connection manager.
func (b *builder) managerFragment() *hcmv3.HttpConnectionManager {
	whole := b.connectionManager()
	filters := whole.GetHttpFilters()
	return &hcmv3.HttpConnectionManager{
		AccessLog:                    whole.GetAccessLog(),
		UseRemoteAddress:             whole.GetUseRemoteAddress(),
		XffNumTrustedHops:            whole.GetXffNumTrustedHops(),
		InternalAddressConfig:        whole.GetInternalAddressConfig(),
		NormalizePath:                whole.GetNormalizePath(),
		MergeSlashes:                 whole.GetMergeSlashes(),
		PathWithEscapedSlashesAction: whole.GetPathWithEscapedSlashesAction(),
		CommonHttpProtocolOptions:    whole.GetCommonHttpProtocolOptions(),
		UpgradeConfigs:               whole.GetUpgradeConfigs(),
		HttpFilters:                  filters[:len(filters)-1], // the router is there already
	}
}

// nodesOf returns messages as a YAML list.
func nodesOf[M proto.Message](messages []M) (*yaml.Node, error) {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, message := range messages {
		node, err := nodeOf(message)
		if err != nil {
			return nil, err
		}
		list.Content = append(list.Content, node)
	}
	return list, nil
}
