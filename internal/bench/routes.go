//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tokenkithq/authz/envoy"
)

const authzFilter = "envoy.filters.http.ext_authz"

// route is one listener of an Envoy: the configuration that "tokenkit-authz
// envoy config" writes, with an answer of Envoy's own instead of an upstream,
// and with what a case changes of it.
type route struct {
	name string
	// authz is where decisions are made: a host:port or "unix:/path".
	authz string
	// filter changes the ext_authz filter.
	filter func(*authzv3.ExtAuthz)
	// cluster changes the cluster of authz.
	cluster func(*clusterv3.Cluster)
	// connections changes everything else.
	connections func(*hcmv3.HttpConnectionManager) error
}

// without takes a filter out.
func without(name string) func(*hcmv3.HttpConnectionManager) error {
	return func(m *hcmv3.HttpConnectionManager) error {
		m.HttpFilters = slices.DeleteFunc(m.GetHttpFilters(), func(f *hcmv3.HttpFilter) bool { return f.GetName() == name })
		return nil
	}
}

// instead puts another filter in the place of ext_authz.
func instead(name string, config proto.Message) func(*hcmv3.HttpConnectionManager) error {
	return func(m *hcmv3.HttpConnectionManager) error {
		packed, err := anypb.New(config)
		if err != nil {
			return err
		}
		for _, f := range m.GetHttpFilters() {
			if f.GetName() == authzFilter {
				f.Name, f.ConfigType = name, &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed}
			}
		}
		return nil
	}
}

// bootstrapOf returns the configuration of an Envoy with all routes.
func bootstrapOf(routes []route) (*bootstrapv3.Bootstrap, error) {
	var all *bootstrapv3.Bootstrap
	for _, r := range routes {
		// On a busy machine an answer that comes late is measured, too.
		o := envoy.Options{Listen: "127.0.0.1:0", EnvoyAdmin: "127.0.0.1:0", AuthzTimeout: 10 * time.Second}
		if r.authz != "" {
			o.Authz = []string{r.authz}
		}
		one, err := envoy.Bootstrap(o)
		if err != nil {
			return nil, err
		}
		resources := one.GetStaticResources()
		listener, cluster := resources.GetListeners()[0], resources.GetClusters()[0]
		listener.Name = r.name
		cluster.Name = "authz-" + r.name
		cluster.LoadAssignment.ClusterName = cluster.GetName()
		if r.cluster != nil {
			r.cluster(cluster)
		}
		if err := r.edit(listener, cluster.GetName()); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.name, err)
		}
		if all == nil {
			all = one
			continue
		}
		to := all.GetStaticResources()
		to.Listeners = append(to.Listeners, listener)
		if r.authz != "" {
			to.Clusters = append(to.Clusters, cluster)
		}
	}
	return all, nil
}

func (r *route) edit(listener *listenerv3.Listener, cluster string) error {
	packed := listener.GetFilterChains()[0].GetFilters()[0].GetTypedConfig()
	manager := &hcmv3.HttpConnectionManager{}
	if err := packed.UnmarshalTo(manager); err != nil {
		return err
	}
	routes := manager.GetRouteConfig().GetVirtualHosts()[0]
	for _, to := range routes.GetRoutes() {
		if to.GetName() == "protected" {
			to.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
				Status: http.StatusOK, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "{}\n"}},
			}}
		}
	}
	for _, f := range manager.GetHttpFilters() {
		if f.GetName() != authzFilter {
			continue
		}
		config := &authzv3.ExtAuthz{}
		if err := f.GetTypedConfig().UnmarshalTo(config); err != nil {
			return err
		}
		config.GetGrpcService().GetEnvoyGrpc().ClusterName = cluster
		if r.filter != nil {
			r.filter(config)
		}
		if err := f.GetTypedConfig().MarshalFrom(config); err != nil {
			return err
		}
	}
	if r.connections != nil {
		if err := r.connections(manager); err != nil {
			return err
		}
	}
	return packed.MarshalFrom(manager)
}

// front is a running Envoy.
type front struct {
	*envoy.Process
	addresses map[string]string // by route
}

// startEnvoy runs an Envoy with these routes until the lab stops, and waits
// until it knows its services to be well.
func (l *lab) startEnvoy(routes ...route) (*front, error) {
	bootstrap, err := bootstrapOf(routes)
	if err != nil {
		return nil, err
	}
	config, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(bootstrap)
	if err != nil {
		return nil, fmt.Errorf("encoding Envoy configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(l.ctx, 20*time.Second)
	defer cancel()
	process, err := envoy.StartConfig(ctx, config, envoy.ProcessOptions{Concurrency: l.concurrency, LogLevel: "error"})
	if err != nil {
		return nil, err
	}
	l.envoys = append(l.envoys, process)
	f := &front{Process: process, addresses: make(map[string]string)}
	return f, f.findAddresses(ctx)
}

func (f *front) findAddresses(ctx context.Context) error {
	text, err := f.ask(ctx, "/listeners?format=json")
	if err != nil {
		return err
	}
	var list struct {
		Listeners []struct {
			Name  string
			Local struct {
				Socket struct {
					Address string
					Port    int `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("reading Envoy's listeners: %w", err)
	}
	for _, listener := range list.Listeners {
		f.addresses[listener.Name] = net.JoinHostPort(listener.Local.Socket.Address, strconv.Itoa(listener.Local.Socket.Port))
	}
	return nil
}

// ask makes a call to the admin interface.
func (f *front) ask(ctx context.Context, path string) (_ []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.AdminAddress+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking Envoy: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	return io.ReadAll(response.Body)
}
