// Package kubernetes_test keeps the example right: an API server would take its
// manifests, they confine the service, and the real program serves as they say.
package kubernetes_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/manifesttest"
	"github.com/tokenkithq/authz/examples/exampletest"
)

// kustomization is as much of a kustomization as the example has.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Namespace  string   `json:"namespace"`
	Resources  []string `json:"resources"`
	Labels     []struct {
		Pairs map[string]string `json:"pairs"`
	} `json:"labels"`
	Images []struct {
		Name   string `json:"name"`
		NewTag string `json:"newTag"`
	} `json:"images"`
}

// manifests are all that the kustomization lists, and it lists every file.
func manifests(t *testing.T) []manifesttest.Resource {
	t.Helper()
	text, err := os.ReadFile("kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var k kustomization
	if err := sigsyaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all []manifesttest.Resource
	for _, file := range files {
		if file == "kustomization.yaml" {
			continue
		}
		if !slices.Contains(k.Resources, file) {
			t.Errorf("%s is not in the kustomization", file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, manifesttest.Check(t, content)...)
	}
	if len(files) != len(k.Resources)+1 || k.Namespace != "tokenkit" {
		t.Errorf("the kustomization is %+v", k)
	}
	return all
}

// find returns the resource of a type and a name.
func find[T any](t *testing.T, all []manifesttest.Resource, name string) T {
	t.Helper()
	for _, r := range all {
		if object, ok := r.Object.(T); ok && r.Name == name {
			return object
		}
	}
	t.Fatalf("there is no %s of the kind", name)
	panic("not reached")
}

func TestManifestsFitTogether(t *testing.T) {
	all := manifests(t)
	set := find[*appsv1.StatefulSet](t, all, "tokenkit-authz")
	pod := set.Spec.Template
	labels := pod.Labels
	service := find[*corev1.Service](t, all, "tokenkit-authz")
	selectors := map[string]map[string]string{
		"the StatefulSet":    set.Spec.Selector.MatchLabels,
		"the Service":        service.Spec.Selector,
		"the pods' Service":  find[*corev1.Service](t, all, set.Spec.ServiceName).Spec.Selector,
		"the budget":         find[*policyv1.PodDisruptionBudget](t, all, "tokenkit-authz").Spec.Selector.MatchLabels,
		"the network policy": find[*networkingv1.NetworkPolicy](t, all, "tokenkit-authz").Spec.PodSelector.MatchLabels,
	}
	for who, selector := range selectors {
		if len(selector) == 0 {
			t.Errorf("%s selects all", who)
		}
		for name, value := range selector {
			if labels[name] != value {
				t.Errorf("%s selects %s=%s, pods have %v", who, name, value, labels)
			}
		}
	}
	ports := map[string]int32{}
	for _, port := range pod.Spec.Containers[0].Ports {
		ports[port.Name] = port.ContainerPort
	}
	for _, port := range service.Spec.Ports {
		if ports[port.TargetPort.String()] != port.Port {
			t.Errorf("the Service sends %d to %s, pods have %v", port.Port, port.TargetPort.String(), ports)
		}
	}
	host, _, _ := strings.Cut(envoy.ClusterAuthz, ":")
	if !strings.HasPrefix(host, service.Name+".tokenkit.svc.") || !strings.HasSuffix(envoy.ClusterAuthz, ":9001") || !strings.HasSuffix(envoy.ClusterAdminAPI, ":9002") {
		t.Errorf("what is rendered asks %s", envoy.ClusterAuthz)
	}
	if find[*corev1.ServiceAccount](t, all, pod.Spec.ServiceAccountName).AutomountServiceAccountToken == nil {
		t.Error("the account's token is mounted")
	}
	if len(find[*networkingv1.NetworkPolicy](t, all, "tokenkit-authz").Spec.Egress) > 0 {
		t.Error("the pod may call others")
	}
}

// What the restricted pod security standard asks for, and more.
func TestPodIsConfined(t *testing.T) {
	all := manifests(t)
	pod := find[*appsv1.StatefulSet](t, all, "tokenkit-authz").Spec.Template.Spec
	if c := pod.SecurityContext; c == nil || c.RunAsNonRoot == nil || !*c.RunAsNonRoot || *c.RunAsUser == 0 || c.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod may %+v", c)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Error("the pod sees its node or the cluster")
	}
	for _, container := range pod.Containers {
		c := container.SecurityContext
		if c == nil || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem ||
			c.Capabilities == nil || !slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(c.Capabilities.Add) > 0 {
			t.Errorf("the container may %+v", c)
		}
	}
	if namespace := find[*corev1.Namespace](t, all, "tokenkit"); namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("the namespace has %v", namespace.Labels)
	}
}

// The real program, told what the container is told, passes its probes.
func TestProgramServesAsTheManifestSays(t *testing.T) {
	container := find[*appsv1.StatefulSet](t, manifests(t), "tokenkit-authz").Spec.Template.Spec.Containers[0]
	args := slices.Clone(container.Args)
	if args[0] != "serve" || !slices.Contains(args, "--data=/data/tokenkit") || container.VolumeMounts[0].MountPath != "/data" {
		t.Fatalf("it runs %q", args)
	}
	args = slices.DeleteFunc(args[1:], func(arg string) bool {
		return strings.HasPrefix(arg, "--data=") || strings.HasPrefix(arg, "--log-format=")
	})
	args = append(args, "--grpc-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--drain=0")
	service := exampletest.Serve(t, exampletest.Build(t), args...)

	probe := container.ReadinessProbe.GRPC
	connection, err := grpc.NewClient(service.Check, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	answer, err := healthpb.NewHealthClient(connection).Check(t.Context(), &healthpb.HealthCheckRequest{Service: *probe.Service})
	if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("readiness: %v, %v", answer, err)
	}
	for _, p := range []*corev1.Probe{container.LivenessProbe, container.StartupProbe} {
		// A kubelet asks by the address of the pod, which is no name of the API.
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+service.Admin+p.HTTPGet.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "10.1.2.3:9002"
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", p.HTTPGet.Path, response.StatusCode)
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(readme)) {
		if _, command, found := strings.Cut(line, "exec tokenkit-authz-0 -- /tokenkit-authz "); found {
			words, named := strings.CutSuffix(strings.TrimSpace(command), " --data /data/tokenkit")
			if !named {
				t.Errorf("%s does not name the folder", line)
			}
			service.Run(t, strings.Fields(words)...)
		}
	}
	if keys := service.Run(t, "key", "list"); !strings.Contains(keys, "my-app") {
		t.Errorf("the commands of the README made %q", keys)
	}
}

// Where there is a kubectl, it builds the example.
func TestKustomizeBuilds(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: kubectl is not installed")
	}
	out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	built := manifesttest.Check(t, out)
	if len(built) != len(manifests(t)) {
		t.Errorf("%d resources were built", len(built))
	}
	for _, r := range built {
		if r.Namespace != "tokenkit" && r.Kind != "Namespace" {
			t.Errorf("%s %s is in the namespace %q", r.Kind, r.Name, r.Namespace)
		}
		if !bytes.Contains(r.Manifest, []byte("app.kubernetes.io/name: tokenkit-authz")) {
			t.Errorf("%s %s has no label", r.Kind, r.Name)
		}
	}
}
