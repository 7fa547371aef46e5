package manifesttest

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

//go:embed schemas/*.json
var schemas embed.FS

// definition is one file of schemas.
type definition struct {
	Group   string         `json:"group"`
	Version string         `json:"version"`
	Kind    string         `json:"kind"`
	Schema  map[string]any `json:"schema"`
}

// custom validates a resource against the schema of its kind and returns it as
// a map.
func (r *Reader) custom(t metav1.TypeMeta, manifest []byte) (map[string]any, error) {
	schema, err := r.schemaOf(t)
	if err != nil {
		return nil, err
	}
	encoded, err := sigsyaml.YAMLToJSONStrict(manifest)
	if err != nil {
		return nil, err
	}
	object, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	if err != nil {
		return nil, err
	}
	if err := schema.Validate(object); err != nil {
		return nil, err
	}
	whole := object.(map[string]any) // as its schema says
	metadata, err := json.Marshal(whole["metadata"])
	if err != nil {
		return nil, err
	}
	return whole, sigsyaml.UnmarshalStrict(metadata, &metav1.ObjectMeta{})
}

func (r *Reader) schemaOf(t metav1.TypeMeta) (*jsonschema.Schema, error) {
	if found := r.compiled[t]; found != nil {
		return found, nil
	}
	files, err := schemas.ReadDir("schemas")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := schemas.ReadFile("schemas/" + file.Name())
		if err != nil {
			return nil, err
		}
		var d definition
		if err := json.Unmarshal(content, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		if t.APIVersion != d.Group+"/"+d.Version || t.Kind != d.Kind {
			continue
		}
		// What every resource has, an API server knows by itself.
		properties := d.Schema["properties"].(map[string]any)
		for name, kind := range map[string]string{"apiVersion": "string", "kind": "string", "metadata": "object"} {
			properties[name] = map[string]any{"type": kind}
		}
		closeObjects(d.Schema)
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource(file.Name(), d.Schema); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
		schema, err := compiler.Compile(file.Name())
		if err != nil {
			return nil, err
		}
		if r.compiled == nil {
			r.compiled = map[metav1.TypeMeta]*jsonschema.Schema{}
		}
		r.compiled[t] = schema
		return schema, nil
	}
	return nil, fmt.Errorf("%s %s: expected a kind whose schema is known", t.APIVersion, t.Kind)
}

// closeObjects turns a structural schema into one of JSON Schema that refuses
// the fields which an API server would drop.
func closeObjects(schema map[string]any) {
	// JSON Schema has no use for a default inside, and "nullable" is not its own.
	delete(schema, "default")
	delete(schema, "nullable")
	if schema["x-kubernetes-int-or-string"] == true {
		delete(schema, "type")
	}
	properties, _ := schema["properties"].(map[string]any)
	for _, property := range properties {
		closeObjects(property.(map[string]any))
	}
	if items, ok := schema["items"].(map[string]any); ok {
		closeObjects(items)
	}
	if more, ok := schema["additionalProperties"].(map[string]any); ok {
		closeObjects(more)
	}
	_, open := schema["additionalProperties"]
	if len(properties) > 0 && !open && schema["x-kubernetes-preserve-unknown-fields"] != true {
		schema["additionalProperties"] = false
	}
}
