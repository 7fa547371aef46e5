package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/real"
)

var keyPattern = regexp.MustCompile(apikey.SecretPattern)

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// Every fenced command of the README and of docs runs, in order, in one shell
// for each document. Replacements give it a port of its own and the built
// program.
func TestDocumentedShell(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		real.Require(t, tool)
	}
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, path := range append(documents, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var script []string
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if block[1] == "sh" {
				script = append(script, block[2])
			}
		}
		if len(script) == 0 {
			continue
		}
		commands += len(script)
		t.Run(filepath.Base(path), func(t *testing.T) { runDocumented(t, strings.Join(script, "\n")) })
	}
	if commands < 4 {
		t.Errorf("only %d blocks of commands were found", commands)
	}
}

func runDocumented(t *testing.T, script string) {
	address := func() string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		return listener.Addr().String()
	}
	grpc, admin := address(), address()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		t.Fatal(err)
	}
	script = strings.NewReplacer(
		// The tests are run by who reads this.
		"go test ./...\n", "",
		// It serves until it is interrupted.
		"go run ./cmd/tokenkit-authz demo\n", "tokenkit-authz demo --once --stand-in\n",
		"go build -o tokenkit-authz ./cmd/tokenkit-authz\n", "cp \"$PROGRAM\" tokenkit-authz\n",
		"make ", "make --dry-run --directory \"$ROOT\" ",
		"./tokenkit-authz serve &", "./tokenkit-authz serve &\nSERVE=$!; trap 'kill $SERVE; wait $SERVE' EXIT; until [ -S data/control.sock ]; do sleep 0.1; done #",
		"user add alice --generate ", "user add alice --generate | tee password.txt ",
		"http://127.0.0.1:9002", "http://"+admin,
		`-d '{"username": "alice", "password": "…"}'`, `-d "{\"username\": \"alice\", \"password\": \"$(sed -n 's/^password: //p' password.txt)\"}"`,
		"curl ", "curl --fail-with-body -sS ",
		"/etc/envoy/secrets", filepath.Join(dir, "secrets"),
	).Replace(script)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"PROGRAM="+binary(t), "ROOT="+root, "PATH="+filepath.Dir(binary(t))+":"+os.Getenv("PATH"),
		"TOKENKIT_AUTHZ_GRPC_LISTEN="+grpc, "TOKENKIT_AUTHZ_ADMIN_LISTEN="+admin, "TOKENKIT_AUTHZ_DRAIN=0s")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	t.Logf("%s", keyPattern.ReplaceAll(out, []byte("tk_…")))
}
