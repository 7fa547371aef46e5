// Package compose_test keeps the example right: its files are valid, fit
// together and work with the real program and a real Envoy.
package compose_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/examples/exampletest"
)

var update = flag.Bool("update", false, "write envoy.yaml")

func load(t *testing.T) *types.Project {
	t.Helper()
	content, err := os.ReadFile("compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  ".",
		ConfigFiles: []types.ConfigFile{{Filename: "compose.yaml", Content: content}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestEnvoyConfigIsTheRenderedOne(t *testing.T) {
	want, err := envoy.Render(envoy.Options{Listen: "0.0.0.0:10000", AccessLog: "/dev/stdout"})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("envoy.yaml", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("envoy.yaml is not what is rendered; run go test -update")
	}
}

func TestFilesFitTogether(t *testing.T) {
	project := load(t)
	front := project.Services["envoy"]
	if len(front.Ports) != 1 || front.Ports[0].Target != 10000 || front.Ports[0].HostIP != "127.0.0.1" {
		t.Errorf("Envoy publishes %+v", front.Ports)
	}
	if len(front.Volumes) != 1 || filepath.Base(front.Volumes[0].Source) != "envoy.yaml" || !slices.Contains(front.Command, front.Volumes[0].Target) {
		t.Errorf("Envoy reads %v and has %+v", front.Command, front.Volumes)
	}
	for _, name := range []string{"authz", "upstream"} {
		service := project.Services[name]
		if service.NetworkMode != "service:envoy" || len(service.Ports) > 0 || !service.ReadOnly || service.User != "65532:65532" || !slices.Equal(service.CapDrop, []string{"ALL"}) {
			t.Errorf("%s is not confined: %+v", name, service)
		}
	}
	build := project.Services["authz"].Build
	if _, err := os.Stat(filepath.Join(build.Context, cmp.Or(build.Dockerfile, "Dockerfile"))); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(build.Context, "go.mod")); err != nil {
		t.Error(err)
	}
	if volumes := project.Services["authz"].Volumes; len(volumes) != 1 || volumes[0].Target != "/data" || volumes[0].Type != "volume" {
		t.Errorf("the service keeps its data in %+v", volumes)
	}
}

// The commands of the compose file and of the README, run on this machine.
func TestExampleWorks(t *testing.T) {
	envoytest.Require(t)
	data := filepath.Join(t.TempDir(), "data")
	local := strings.NewReplacer("/data", data)
	var args []string
	for _, arg := range load(t).Services["authz"].Command[1:] {
		args = append(args, local.Replace(arg))
	}
	service := exampletest.Serve(t, exampletest.Build(t), args...)
	_, grpcPort, _ := strings.Cut(service.Check, ":")
	_, adminPort, _ := strings.Cut(service.Admin, ":")
	upstream := echo.Start(t)
	_, upstreamPort, _ := strings.Cut(upstream.Address(), ":")

	config, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ports := strings.NewReplacer("port_value: 9001\n", "port_value: "+grpcPort+"\n", "port_value: 9002\n", "port_value: "+adminPort+"\n",
		"port_value: 8080\n", "port_value: "+upstreamPort+"\n", "port_value: 10000\n", "port_value: 0\n",
		"timeout: 0.250s\n", "timeout: 10s\n", "max_interval: 0.250s\n", "max_interval: 10s\n", // a busy machine decides late
		"address: 0.0.0.0\n", "address: 127.0.0.1\n")
	front := envoytest.StartConfig(t, []byte(ports.Replace(string(config))+"admin:\n  address:\n    socket_address: {address: 127.0.0.1, port_value: 0}\n"))

	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^docker compose exec authz /tokenkit-authz (.*)$`).FindAllSubmatch(readme, -1)
	if len(commands) != 2 {
		t.Fatalf("the README has %d commands", len(commands))
	}
	command := func(line []byte) []string { // its folder is the service's
		words, found := strings.CutSuffix(string(line), " --data /data/tokenkit")
		if !found {
			t.Errorf("%s does not name the folder", line)
		}
		return strings.Fields(words)
	}
	password := regexp.MustCompile(`(?m)^password: (\S+)$`).FindStringSubmatch(service.Run(t, command(commands[0][1])...))
	key := regexp.MustCompile(`tk_[0-9A-Za-z]{49}`).FindString(service.Run(t, command(commands[1][1])...))
	curls := regexp.MustCompile(`(?m)^curl (?:.*\\\n)*.*$`).FindAllString(string(readme), -1)
	if len(curls) != 2 || key == "" || password == nil {
		t.Fatalf("the README has %d curl commands, or a password or a key was not shown", len(curls))
	}
	for i, want := range []string{`"path":"/api/tokens/?common=true"`, `"token":"tks_`} {
		line := strings.ReplaceAll(curls[i], "http://localhost:10000", front.URL)
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Env = append(os.Environ(), "KEY="+key, "PASSWORD="+password[1])
		if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("curl command %d: %v, got %s, want %s", i+1, err, out, want)
		}
	}
	if status := exampletest.Do(t, http.MethodGet, front.URL+"/api/tokens/?api-key="+key).Status; status != http.StatusUnauthorized {
		t.Errorf("status %d without a key", status)
	}
	checkAccessLog(t, front, key)
}

// checkAccessLog ends the front, which then writes its log out.
func checkAccessLog(t *testing.T, front *envoytest.Instance, key string) {
	t.Helper()
	if err := front.Stop(); err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for line := range strings.Lines(front.Log()) {
		var entry struct {
			Path, Client, Reason string
			KeyID                string `json:"key_id"`
			Status               int
		}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		if strings.Contains(line, key) || strings.Contains(entry.Path, "?") {
			t.Errorf("the access log shows a query")
		}
		reasons = append(reasons, entry.Reason)
		if entry.Reason == "allowed" && (entry.KeyID != "1" || entry.Client != "127.0.0.1" || entry.Status != 200) {
			t.Errorf("the access log says %s", line)
		}
	}
	if !slices.Contains(reasons, "allowed") || !slices.Contains(reasons, "missing_key") {
		t.Errorf("the access log gives the reasons %q", reasons)
	}
}
