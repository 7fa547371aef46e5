// Package manifesttest checks Kubernetes manifests as strictly as an API server
// that is told to refuse unknown fields.
//
//	for _, r := range manifesttest.Check(t, manifests) {
//		... r.Kind, r.Name, r.Object ...
//	}
//
// Built-in resources are read into the published types, custom ones are
// validated against the published schemas. Rules in CEL and references between
// resources are not checked.
package manifesttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsyaml "sigs.k8s.io/yaml"
)

// Resource is one checked manifest.
type Resource struct {
	APIVersion, Kind, Namespace, Name string
	// Object is the manifest as the type of a built-in resource, such as
	// [*appsv1.StatefulSet], or as a map of a custom one.
	Object any
	// Manifest is its YAML.
	Manifest []byte
}

// Check reads manifests, one or more documents of YAML, and fails the test for
// each that an API server would refuse.
func Check(t testing.TB, manifests []byte) []Resource {
	t.Helper()
	var r Reader
	resources, err := r.Read(manifests)
	if err != nil {
		t.Error(err)
	}
	return resources
}

// Reader reads manifests; one that reads several times is faster. The zero
// Reader is ready to use, by one goroutine at a time.
type Reader struct {
	compiled map[metav1.TypeMeta]*jsonschema.Schema
}

// Read returns the manifests that are right, and an error that names what is
// wrong with the others.
func (r *Reader) Read(manifests []byte) ([]Resource, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(manifests))
	var resources []Resource
	var wrong []error
	for i := 1; ; i++ {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return resources, errors.Join(wrong...)
		} else if err != nil {
			return resources, errors.Join(append(wrong, fmt.Errorf("document %d: %w", i, err))...)
		}
		encoded, err := yaml.Marshal(&document)
		if err == nil {
			var one Resource
			if one, err = r.readOne(encoded); err == nil {
				resources = append(resources, one)
				continue
			}
		}
		wrong = append(wrong, fmt.Errorf("document %d: %w", i, err))
	}
}

func (r *Reader) readOne(manifest []byte) (Resource, error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
	}
	if err := sigsyaml.Unmarshal(manifest, &head); err != nil {
		return Resource{}, err
	}
	if head.Metadata.Name == "" {
		return Resource{}, errors.New("metadata.name: expected a name")
	}
	one := Resource{APIVersion: head.APIVersion, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name, Manifest: manifest}
	var err error
	if one.Object = builtIn(head.TypeMeta); one.Object != nil {
		err = sigsyaml.UnmarshalStrict(manifest, one.Object)
	} else {
		one.Object, err = r.custom(head.TypeMeta, manifest)
	}
	if err != nil {
		return Resource{}, fmt.Errorf("%s %s: %w", one.Kind, one.Name, err)
	}
	return one, nil
}

// builtIn returns an empty resource of a built-in type, nil for any other.
func builtIn(t metav1.TypeMeta) any {
	switch t.APIVersion + "/" + t.Kind {
	case "v1/Namespace":
		return &corev1.Namespace{}
	case "v1/Service":
		return &corev1.Service{}
	case "v1/ServiceAccount":
		return &corev1.ServiceAccount{}
	case "apps/v1/Deployment":
		return &appsv1.Deployment{}
	case "apps/v1/StatefulSet":
		return &appsv1.StatefulSet{}
	case "networking.k8s.io/v1/NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "policy/v1/PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	}
	return nil
}
