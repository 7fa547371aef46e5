package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tokenkithq/authz/envoy/manifesttest"
	"github.com/tokenkithq/authz/internal/real"
)

// stubNames are the programs that documents use and that do not run here: they
// need a cluster, containers, a server to change, or they never end.
var stubNames = []string{"docker", "helm", "install", "kubectl", "kustomize", "prometheus", "sudo", "systemctl"}

// stub notes what it is asked for. What runs our own program, it runs, on a
// folder of its own; compose is started as the example says, with a real Envoy.
const stub = `#!/usr/bin/env bash
set -euo pipefail
name=${0##*/}
all="$name $*"
data="$STUBDATA/$name"
if [ "$name" = sudo ]; then exec "$@"; fi
call=$(mktemp -d "$CALLS/XXXXXX")
printf '%s\0' "$PWD" "$name" "$@" >"$call/args"
for arg; do if [ "$arg" = - ]; then cat >"$call/stdin"; fi; done
case $all in
"kubectl "*" -- /tokenkit-authz "* | "docker compose exec authz /tokenkit-authz "*)
	while [ "$1" != /tokenkit-authz ]; do shift; done
	shift
	mkdir -p -m 0700 "$data"
	tokenkit-authz "${@/#\/data\//$data/}"
	;;
"docker compose up "*)
	for pid in $(cat "$PIDS"); do # what an example before this one left
		kill "$pid" 2>/dev/null || true
		for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null && sleep 0.1 || break; done
	done
	: >"$PIDS"
	mkdir -p -m 0700 "$data"
	tokenkit-authz serve --data "$data/tokenkit" --client-address header:x-client-ip --admin-address-header x-client-ip >>"$LOG" 2>&1 &
	echo $! >>"$PIDS"
	until [ -S "$data/tokenkit/control.sock" ]; do sleep 0.1; done
	"$FRONT_SCRIPT" envoy.yaml
	;;
"install "*)
	mkdir -p "$INSTALLED"
	cp "${@:3:$#-3}" "$INSTALLED"
	;;
esac
`

// wrapper stands for our own program, and keeps what that shows once.
const wrapper = `#!/usr/bin/env bash
set -euo pipefail
case "${1:-} ${2:-}" in
"user add" | "key create") "$PROGRAM" "$@" | tee -a "$SHOWN" ;;
*) exec "$PROGRAM" "$@" ;;
esac
`

// frontScript starts Envoy with a file that documents name, on the ports of the
// test, and returns once it answers.
const frontScript = `#!/usr/bin/env bash
set -euo pipefail
sed -e "s/port_value: 9001$/port_value: ${TOKENKIT_AUTHZ_GRPC_LISTEN##*:}/; s/port_value: 9002$/port_value: ${TOKENKIT_AUTHZ_ADMIN_LISTEN##*:}/" \
	-e "s/port_value: 8080$/port_value: ${UPSTREAM##*:}/; s/port_value: 10000$/port_value: ${FRONT##*:}/; s/address: 0.0.0.0$/address: 127.0.0.1/" \
	-e "s/timeout: 0.250s$/timeout: 10s/; s/max_interval: 0.250s$/max_interval: 10s/" "$1" >"$CALLS/../front.yaml"
tokenkit-authz echo --listen "$UPSTREAM" >>"$LOG" 2>&1 &
echo $! >>"$PIDS"
# Envoy ends with the process that started it, so one stays for it.
{
	"$ENVOY" --use-dynamic-base-id -l warn -c "$CALLS/../front.yaml" &
	echo $! >>"$PIDS"
	wait
} >>"$LOG" 2>&1 &
for _ in $(seq 600); do
	if curl -s -o /dev/null "http://$FRONT/api/users/auth/none"; then exit 0; fi
	sleep 0.1
done
exit 1
`

const prelude = `
background() { echo $! >>"$PIDS"; }
front() { "$FRONT_SCRIPT" "$1"; }
shown() {
	local key; key=$(grep -o 'tk_[0-9A-Za-z]\{49\}' "$SHOWN" | tail -1 || true)
	KEY=${key:-${KEY:-}} PASSWORD=$(sed -n 's/^password: //p' "$SHOWN" | tail -1)
}
trap 'for pid in $(cat "$PIDS"); do kill "$pid" 2>/dev/null || true; done; wait || true' EXIT
`

// stubs stand for the programs that do not run here.
type stubs struct {
	dir, data string
	environ   []string
}

func newStubs(t *testing.T, grpc, admin, front string) *stubs {
	t.Helper()
	s := &stubs{dir: t.TempDir()}
	s.data = filepath.Join(s.dir, "var")
	write := func(name, text string) string {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil { //nolint:gosec // they are programs
			t.Fatal(err)
		}
		return path
	}
	for _, name := range stubNames {
		write("bin/"+name, stub)
	}
	for _, name := range []string{"calls", "stubdata"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.environ = append(os.Environ(),
		"PROGRAM="+binary(t), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"), "WRAPPER="+write("bin/tokenkit-authz", wrapper),
		"CALLS="+filepath.Join(s.dir, "calls"), "STUBDATA="+filepath.Join(s.dir, "stubdata"), "INSTALLED="+filepath.Join(s.dir, "installed"),
		"SHOWN="+write("shown", ""), "PIDS="+write("pids", ""), "LOG="+write("log", ""), "FRONT_SCRIPT="+write("front", frontScript),
		"FRONT="+front, "UPSTREAM="+freeAddress(t),
		"TOKENKIT_AUTHZ_GRPC_LISTEN="+grpc, "TOKENKIT_AUTHZ_ADMIN_LISTEN="+admin, "TOKENKIT_AUTHZ_DRAIN=0s")
	return s
}

// shownSecret is what documents show once.
var shownSecret = regexp.MustCompile(`(tks?_|password: )[0-9A-Za-z_-]{20,}`)

func (s *stubs) run(t *testing.T, dir, root, script string) {
	t.Helper()
	if strings.Contains(script, "promtool ") {
		real.Require(t, "promtool")
	}
	if strings.Contains(script, "envoy --mode validate") {
		if _, err := exec.LookPath("envoy"); err != nil { // it may have another name
			script = strings.ReplaceAll(script, "envoy --mode validate", `"$ENVOY" -l warn --mode validate`)
		}
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", prelude+script)
	cmd.Dir = dir
	cmd.Env = slices.Concat(s.environ, []string{"ROOT=" + root})
	out, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	hide := func(text []byte) []byte { return shownSecret.ReplaceAll(text, []byte("$1…")) }
	if err != nil {
		t.Fatalf("%v\n%s\n%s\n%s", err, script, hide(out), hide(log))
	}
	t.Logf("%s", hide(out))
}

// stubCall is what a stub was asked for.
type stubCall struct {
	dir  string // where
	line string
	// stdin is what "-" stood for.
	stdin     []byte
	installed string // a folder
}

// documentedForms are the commands that are checked and not run, each with what
// is checked of them. What the parentheses match is passed on.
var documentedForms = []struct {
	form  string
	check func(t *testing.T, c stubCall, match []string)
}{
	{`kubectl apply -f (\S+)`, func(t *testing.T, c stubCall, match []string) {
		text := c.stdin
		if match[1] != "-" {
			text = c.read(t, match[1])
		}
		if len(manifesttest.Check(t, text)) == 0 {
			t.Errorf("%s: it holds nothing", c.line)
		}
	}},
	{`kubectl apply -k \.`, func(t *testing.T, c stubCall, _ []string) {
		var k struct{ Resources []string }
		if err := yaml.Unmarshal(c.read(t, "kustomization.yaml"), &k); err != nil || len(k.Resources) == 0 {
			t.Fatalf("%s: %v", c.line, err)
		}
		for _, file := range k.Resources {
			manifesttest.Check(t, c.read(t, file))
		}
	}},
	{`kubectl label namespace [a-z-]+ (tokenkit-authz)=(client|monitor)`, func(t *testing.T, _ stubCall, match []string) {
		policy, err := os.ReadFile("../../examples/kubernetes/networkpolicy.yaml")
		if err != nil || !strings.Contains(string(policy), match[1]+": "+match[2]+"\n") {
			t.Errorf("the network policy knows no label %s=%s: %v", match[1], match[2], err)
		}
	}},
	{`kubectl -n tokenkit rollout status statefulset/(tokenkit-authz)`, named("../../examples/kubernetes/statefulset.yaml")},
	{`kubectl -n tokenkit exec (tokenkit-authz)-0 -- /tokenkit-authz .+`, named("../../examples/kubernetes/statefulset.yaml")},
	{`kustomize edit set image (tokenkit-authz)=\S+`, func(t *testing.T, c stubCall, match []string) {
		if text := string(c.read(t, "kustomization.yaml")); !strings.Contains(text, "name: "+match[1]+"\n") {
			t.Errorf("%s: there is no such image in\n%s", c.line, text)
		}
	}},
	{`helm upgrade istiod istio/istiod --namespace istio-system --reuse-values --values (\S+)`, func(t *testing.T, c stubCall, match []string) {
		var values struct {
			MeshConfig map[string]any `yaml:"meshConfig"`
		}
		if err := yaml.Unmarshal(c.read(t, match[1]), &values); err != nil || values.MeshConfig["extensionProviders"] == nil {
			t.Errorf("%s: %v, %v", c.line, values, err)
		}
	}},
	{`docker build -t \S+ (\S+)`, func(t *testing.T, c stubCall, match []string) { c.read(t, filepath.Join(match[1], "Dockerfile")) }},
	{`docker push registry.example/tokenkit-authz`, func(*testing.T, stubCall, []string) {}},
	{`docker compose up --build --detach`, func(t *testing.T, c stubCall, _ []string) { c.read(t, "compose.yaml") }},
	{`docker compose exec (authz) /tokenkit-authz .+`, func(t *testing.T, c stubCall, match []string) {
		var compose struct{ Services map[string]any }
		if err := yaml.Unmarshal(c.read(t, "compose.yaml"), &compose); err != nil || compose.Services[match[1]] == nil {
			t.Errorf("%s: %v, %v", c.line, compose, err)
		}
	}},
	{`install -m 0(?:755|644) (.+) /(?:usr/local/bin|etc/systemd/system)/`, func(t *testing.T, c stubCall, match []string) {
		for _, file := range strings.Fields(match[1]) {
			c.read(t, file)
		}
	}},
	{`systemctl daemon-reload`, func(*testing.T, stubCall, []string) {}},
	{`systemctl enable --now (.+)`, func(t *testing.T, c stubCall, match []string) {
		for _, unit := range strings.Fields(match[1]) {
			if _, err := os.Stat(filepath.Join(c.installed, unit)); err != nil {
				t.Errorf("%s: it was not installed before: %v", c.line, err)
			}
		}
	}},
	{`prometheus --config.file=(\S+)`, func(t *testing.T, c stubCall, match []string) {
		promtool := exec.CommandContext(t.Context(), real.Require(t, "promtool"), "check", "config", match[1])
		promtool.Dir = c.dir
		if out, err := promtool.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c.line, err, out)
		}
	}},
}

func named(path string) func(*testing.T, stubCall, []string) {
	return func(t *testing.T, c stubCall, match []string) {
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "\n  name: "+match[1]+"\n") {
			t.Errorf("%s: %s has no such name: %v", c.line, path, err)
		}
	}
}

func (c *stubCall) read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, path))
	if err != nil {
		t.Fatalf("%s: %v", c.line, err)
	}
	return text
}

// check looks at all that the stubs were asked for.
func (s *stubs) check(t *testing.T) {
	t.Helper()
	calls, err := os.ReadDir(filepath.Join(s.dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range calls {
		dir := filepath.Join(s.dir, "calls", entry.Name())
		args, err := os.ReadFile(filepath.Join(dir, "args"))
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
		c := stubCall{dir: words[0], line: strings.Join(words[1:], " "), installed: filepath.Join(s.dir, "installed")}
		c.stdin, _ = os.ReadFile(filepath.Join(dir, "stdin"))
		if err := c.check(t); err != nil {
			t.Error(err)
		}
	}
}

func (c *stubCall) check(t *testing.T) error {
	t.Helper()
	for _, f := range documentedForms {
		if match := regexp.MustCompile(`^` + f.form + `$`).FindStringSubmatch(c.line); match != nil {
			f.check(t, *c, match)
			return nil
		}
	}
	return fmt.Errorf("%q is no command that is known", c.line)
}
