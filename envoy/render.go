package envoy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	sigsyaml "sigs.k8s.io/yaml"
)

const bootstrapHeader = `Envoy with tokenkit-authz in front of an API, for Envoy 1.40.
Written by "tokenkit-authz envoy config"; change its flags rather than this file.`

// comments explain the settings that safety rests on, each at its first place.
var comments = map[string]string{
	"use_remote_address":               "Of x-forwarded-for only what xff_num_trusted_hops proxies appended is believed.",
	"internal_address_config":          "No client is internal: none may steer Envoy with x-envoy headers. An empty list would be all private addresses.",
	"normalize_path":                   "The path that is routed and checked is the path that the upstream sees.",
	"path_with_escaped_slashes_action": "%2F and %5C are read differently by different servers.",
	"headers_with_underscores_action":  "Many servers read x_api_key_id as x-api-key-id.",
	"allowed_headers":                  "The service is shown what it decides by; no cookies, no session tokens.",
	"retry_on":                         "A decision spends a call of the key's limit: repeat only what never arrived.",
	"status_on_error":                  "No decision, no access.",
	"forward_not_matching_preflights":  "What is no preflight for an allowed origin must show a key.",
	"healthy_panic_threshold":          "Unhealthy services are tried only when no healthy one is left.",
	"failure_mode_deny":                "A rate limit service that does not answer denies, too.",
	"health_checks":                    "A service that stops says so first, and gets no more calls.",
}

// itemComments explain the places of filters and routes.
var itemComments = map[string]string{
	headersFilter:   "Overwrites the client's address and removes identity headers that a client made up.",
	corsFilter:      "Before ext_authz: a preflight cannot carry a key.",
	rateLimitFilter: "After ext_authz, which finds out whose key it is.",
	authzFilter:     "Every request that is not for the admin API needs a key.",
	"admin-api":     "The admin API checks sessions itself.",
	"protected":     "Catches all: a request without a route would skip ext_authz.",
}

// Render returns the configuration that o describes as YAML, the same for the
// same options. Its errors are those of [Bootstrap].
func Render(o Options) ([]byte, error) {
	bootstrap, err := Bootstrap(o)
	if err != nil {
		return nil, err
	}
	document, err := nodeOf(bootstrap)
	if err != nil {
		return nil, err
	}
	return encode(document, bootstrapHeader)
}

// nodeOf returns a message as YAML, in the order of its fields.
func nodeOf(message proto.Message) (*yaml.Node, error) {
	encoded, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encoding Envoy configuration: %w", err)
	}
	// JSON is YAML, and reading it as nodes keeps the order of the fields.
	var document yaml.Node
	if err := yaml.Unmarshal(encoded, &document); err != nil {
		return nil, fmt.Errorf("reading back Envoy configuration: %w", err)
	}
	return document.Content[0], nil
}

func encode(document *yaml.Node, header string) ([]byte, error) {
	annotate(document, map[string]bool{})
	whole := &yaml.Node{Kind: yaml.DocumentNode, HeadComment: header, Content: []*yaml.Node{document}}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(whole), encoder.Close()); err != nil {
		return nil, fmt.Errorf("writing Envoy configuration: %w", err)
	}
	return out.Bytes(), nil
}

// annotate turns nodes read from JSON into block style and adds the comments,
// each once.
func annotate(node *yaml.Node, done map[string]bool) {
	node.Style = 0
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" && !plainText(node.Value) {
		node.Style = yaml.DoubleQuotedStyle
	}
	comment := func(on *yaml.Node, texts map[string]string, about string) {
		if text, found := texts[about]; found && !done[about] {
			on.HeadComment = text
			done[about] = true
		}
	}
	if node.Kind == yaml.MappingNode {
		sayExplicitly(node)
		for i := 0; i < len(node.Content); i += 2 {
			comment(node.Content[i], comments, node.Content[i].Value)
		}
	}
	for _, child := range node.Content {
		if node.Kind == yaml.SequenceNode && child.Kind == yaml.MappingNode && child.Content[0].Value == "name" {
			comment(child, itemComments, child.Content[1].Value)
		}
		annotate(child, done)
	}
}

// plainText reports whether text without quotes is read as itself in YAML 1.1
// too, where "yes" is a boolean.
func plainText(text string) bool {
	var read any
	return sigsyaml.Unmarshal([]byte(text), &read) == nil && read == text
}

// sayExplicitly writes out the switches of ext_authz that must stay off, which
// the encoder leaves out since off is their default.
func sayExplicitly(node *yaml.Node) {
	const extAuthz = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
	if len(node.Content) < 2 || node.Content[0].Value != "@type" || node.Content[1].Value != extAuthz {
		return
	}
	for _, name := range []string{"failure_mode_allow", "clear_route_cache"} {
		if !slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return n.Value == name }) {
			node.Content = append(node.Content,
				&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name},
				&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"})
		}
	}
}

// Parse reads a configuration, YAML or JSON, and refuses what Envoy's types do
// not have.
func Parse(config []byte) (*bootstrapv3.Bootstrap, error) {
	encoded, err := sigsyaml.YAMLToJSONStrict(config)
	if err != nil {
		return nil, fmt.Errorf("reading Envoy configuration: %w", err)
	}
	bootstrap := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(encoded, bootstrap); err != nil {
		return nil, fmt.Errorf("reading Envoy configuration: %w", err)
	}
	return bootstrap, nil
}
