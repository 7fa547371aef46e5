package envoy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Where a cluster's services are unless options say otherwise, as the manifests
// in examples/kubernetes put them.
const (
	ClusterAuthz    = "tokenkit-authz.tokenkit.svc.cluster.local:9001"
	ClusterAdminAPI = "tokenkit-authz.tokenkit.svc.cluster.local:9002"
	ClusterUpstream = "api.default.svc.cluster.local:8080"
)

// Kubernetes says which gateway of a cluster asks for keys.
type Kubernetes struct {
	// Namespace is where the gateway is. Empty: "default".
	Namespace string
	// Gateway is the name of a Gateway of the Gateway API. Empty: "gateway".
	Gateway string
	// Workload are the labels of the pods that ask instead, for Istio only:
	// those of a gateway of Istio's own kind, or of a service in the mesh.
	Workload map[string]string
}

func (k Kubernetes) withDefaults() Kubernetes {
	orDefault(&k.Namespace, "default")
	orDefault(&k.Gateway, "gateway")
	return k
}

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (k *Kubernetes) check() error {
	if !label.MatchString(k.Namespace) {
		return fmt.Errorf("namespace %q: expected the name of a namespace", k.Namespace)
	}
	if !label.MatchString(k.Gateway) {
		return fmt.Errorf("gateway %q: expected the name of a Gateway", k.Gateway)
	}
	for name := range k.Workload {
		if name == "" {
			return errors.New("workload: expected labels with names")
		}
	}
	return nil
}

// inCluster completes options whose services are those of a cluster.
func (o Options) inCluster() (Options, error) {
	if o.Authz == nil {
		o.Authz = []string{ClusterAuthz}
	}
	orDefault(&o.AdminAPI, ClusterAdminAPI)
	orDefault(&o.Upstream, ClusterUpstream)
	o, err := o.Complete()
	if err != nil {
		return o, err
	}
	if len(o.Authz) != 1 {
		return o, errors.New("envoy: option Authz: expected one Service of the cluster, behind which there may be several pods")
	}
	if !o.AuthzTLS.none() || !o.AdminTLS.none() {
		return o, errors.New("envoy: options AuthzTLS, AdminTLS: expected none, since the mesh has settings of its own for it")
	}
	if o.RateLimit.Service != "" {
		return o, errors.New("envoy: option RateLimit: expected none, since the mesh has settings of its own for it")
	}
	return o, nil
}

// service is a Service of a cluster.
type service struct {
	name, namespace, host string
	port                  int
}

func parseService(target string) (service, error) {
	e, err := parseEndpoint(target)
	if err != nil {
		return service{}, fmt.Errorf("%q: %w", target, err)
	}
	parts := strings.SplitN(e.host, ".", 4)
	if e.static || len(parts) < 3 || !label.MatchString(parts[0]) || !label.MatchString(parts[1]) || parts[2] != "svc" {
		return service{}, fmt.Errorf("%q: expected a Service and its port, such as %s", target, ClusterAuthz)
	}
	return service{name: parts[0], namespace: parts[1], host: e.host, port: int(e.port)}, nil
}

// field is one field of a manifest; those with a nil value are left out.
type field struct {
	name  string
	value any // text, a number, a truth value, a list of text, or nodes
}

// fields is a mapping that keeps its order.
func fields(all ...field) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range all {
		if f.value == nil {
			continue
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f.name}
		node.Content = append(node.Content, key, valueNode(f.value))
	}
	return node
}

func valueNode(value any) *yaml.Node {
	switch v := value.(type) {
	case *yaml.Node:
		return v
	case []*yaml.Node:
		return &yaml.Node{Kind: yaml.SequenceNode, Content: v}
	case []string:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, text := range v {
			list.Content = append(list.Content, valueNode(text))
		}
		return list
	case map[string]string:
		node := &yaml.Node{Kind: yaml.MappingNode}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			node.Content = append(node.Content, valueNode(name), valueNode(v[name]))
		}
		return node
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(v)}
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprint(v)}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: fmt.Sprint(value)}
}

// resource is a manifest with a comment that says what it is for.
func resource(apiVersion, kind, namespace, name, comment string, spec *yaml.Node) *yaml.Node {
	node := fields(
		field{"apiVersion", apiVersion},
		field{"kind", kind},
		field{"metadata", fields(field{"name", name}, field{"namespace", namespace})},
		field{"spec", spec},
	)
	node.Content[0].HeadComment = comment
	return node
}

// encodeAll writes manifests as documents of one file.
func encodeAll(manifests []*yaml.Node, header string) ([]byte, error) {
	var all []byte
	for i, manifest := range manifests {
		if i > 0 {
			header = ""
			all = append(all, "---\n"...)
		}
		encoded, err := encode(manifest, header)
		if err != nil {
			return nil, err
		}
		all = append(all, encoded...)
	}
	return all, nil
}

// gatewayDuration writes a duration in whole milliseconds as the Gateway API
// reads it: no part may have more than five digits.
func gatewayDuration(d time.Duration) string {
	var text strings.Builder
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if n := d / unit.of; n > 0 {
			fmt.Fprintf(&text, "%d%s", n, unit.name)
			d -= n * unit.of
		}
	}
	if text.Len() == 0 {
		return "0s"
	}
	return text.String()
}
