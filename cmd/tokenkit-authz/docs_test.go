package main

import (
	"compress/gzip"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/internal/real"
)

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// Every fenced command of every document runs, in order, in one shell for each
// document, within a copy of the examples. Replacements give it ports of its own
// and the built program. What runs in a cluster, in containers or as root is
// given to stubs instead, which do what they can of it here; [documentedForms]
// lists these commands, and their arguments and files are checked.
func TestDocumentedShell(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		real.Require(t, tool)
	}
	var documents []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/*/*.md", "../../examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	var tested []string
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var script []string
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if block[1] == "sh" {
				script = append(script, block[2])
			} else if slices.Contains([]string{"", "bash", "console", "shell"}, block[1]) {
				t.Errorf("%s: a block of %q, in place of sh, is not run:\n%s", path, block[1], block[2])
			}
		}
		if len(script) == 0 {
			continue
		}
		name := strings.TrimPrefix(path, "../../")
		tested = append(tested, name)
		t.Run(name, func(t *testing.T) { runDocumented(t, name, strings.Join(script, "\n")) })
	}
	for _, name := range []string{
		"README.md", "docs/getting-started.md", "docs/operations.md", "docs/tls.md", "docs/upgrading.md", "examples/bare/README.md", "examples/compose/README.md",
		"examples/envoy-gateway/README.md", "examples/istio/README.md", "examples/kubernetes/README.md", "examples/observability/README.md",
	} {
		if !slices.Contains(tested, name) {
			t.Errorf("%s has no commands", name)
		}
	}
}

// The program is built here once, and serve runs until the document ends.
var (
	goBuild   = regexp.MustCompile(`(?m)^(?:CGO_ENABLED=0 )?go build (?:-trimpath )?-o (\S+) \S*cmd/tokenkit-authz$`)
	serveRuns = regexp.MustCompile(`(?m)^(\S*tokenkit-authz serve.*)&.*$`)
	lineCurl  = regexp.MustCompile(`(?m)^curl `)
	envoyRuns = regexp.MustCompile(`(?m)^envoy -c (\S+) &$`)
)

func runDocumented(t *testing.T, name, script string) {
	clone := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(clone, "examples"), os.DirFS(filepath.Join(root, "examples"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "Dockerfile"), filepath.Join(clone, "Dockerfile")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(clone, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	if name == "docs/upgrading.md" {
		firstStore(t, root, filepath.Join(clone, "data"))
	}
	dir := clone
	if strings.HasPrefix(name, "examples/") {
		dir = filepath.Join(clone, filepath.Dir(name))
	}
	grpc, admin, front := freeAddress(t), freeAddress(t), freeAddress(t)
	stubs := newStubs(t, grpc, admin, front)
	if envoyRuns.MatchString(script) || strings.Contains(script, "docker compose up") {
		stubs.environ = append(stubs.environ, "ENVOY="+envoytest.Require(t))
	}
	script = goBuild.ReplaceAllString(script, `cp "$$WRAPPER" $1`)
	// What is shown once is looked up before it is used.
	script = lineCurl.ReplaceAllString(script, "shown\ncurl ")
	script = envoyRuns.ReplaceAllString(script, "front $1")
	script = serveRuns.ReplaceAllString(script, "$1 &\nbackground; until [ -S data/control.sock ]; do sleep 0.1; done")
	script = strings.NewReplacer(
		// The tests are run by who reads this.
		"go test ./...\n", "",
		// It serves until it is interrupted.
		"go run ./cmd/tokenkit-authz demo\n", "tokenkit-authz demo --once --stand-in\n",
		"make ", "make --dry-run --directory \"$ROOT\" ",
		"http://127.0.0.1:9002", "http://"+admin,
		"http://127.0.0.1:10000", "http://"+front, "http://localhost:10000", "http://"+front,
		`-d '{"username": "alice", "password": "…"}'`, `-d "{\"username\": \"alice\", \"password\": \"$(sed -n 's/^password: //p' "$SHOWN")\"}"`,
		// Without a key it fails, as it should.
		"curl -i http://127.0.0.1:10000/api/tokens/\n", "curl -sS http://"+front+"/api/tokens/ | grep missing_key\n",
		"curl ", "curl --fail-with-body -sS ",
		"/etc/envoy/secrets", filepath.Join(clone, "secrets"),
		"/var/lib/tokenkit-authz", stubs.data,
	).Replace(script)
	stubs.run(t, dir, root, script)
	stubs.check(t)
}

// firstStore makes a data folder as the first version left it.
func firstStore(t *testing.T, root, data string) {
	t.Helper()
	old, err := os.Open(filepath.Join(root, "store/bolt/testdata/version1.db.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	unpacked, err := gzip.NewReader(old)
	if err != nil {
		t.Fatal(err)
	}
	image, err := io.ReadAll(unpacked)
	if err == nil {
		err = errors.Join(os.Mkdir(data, 0o700), os.WriteFile(filepath.Join(data, "keys.db"), image, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
