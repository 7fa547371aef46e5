package authz_test

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// proxyOf returns a folder that serves as a module proxy with one version of a
// module, which declares the same as ever and has one file of code.
func proxyOf(t *testing.T, module, version, declared, content string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), module, "@v")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	files := zip.NewWriter(&archive)
	for name, text := range map[string]string{"go.mod": declared, "code.go": content} {
		file, err := files.Create(module + "@" + version + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".info": `{"Version": "` + version + `"}`, ".mod": declared, ".zip": archive.String(),
	} {
		if err := os.WriteFile(filepath.Join(folder, version+name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return strings.TrimSuffix(folder, filepath.Join(module, "@v"))
}

// A module whose version has other contents than it had is not built, whoever
// serves it, and nothing in the files of the build looks away.
func TestAttackChangedModule(t *testing.T) {
	const module = "pgregory.net/rapid"
	required := regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(module) + ` (v\S+)`).FindStringSubmatch(read(t, "go.mod"))
	if required == nil {
		t.Fatalf("%s is not required", module)
	}
	declared, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.GoMod}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := os.WriteFile(filepath.Join(here, name), []byte(read(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "go", "mod", "download", module+"@"+required[1])
	command.Dir = here
	command.Env = append(os.Environ(), "GOPROXY=file://"+proxyOf(t, module, required[1], read(t, strings.TrimSpace(string(declared))), "package rapid // changed"),
		"GOMODCACHE="+t.TempDir(), "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOSUMDB=off", "GOWORK=off")
	if said, err := command.CombinedOutput(); err == nil || !strings.Contains(string(said), "checksum mismatch") {
		t.Errorf("a changed module is taken: %v, %s", err, said)
	}

	paths, err := filepath.Glob(".ci/*")
	if err != nil || len(paths) == 0 {
		t.Fatal(err, paths)
	}
	careless := regexp.MustCompile(`GOSUMDB|GONOSUM|GOINSECURE|GONOSUMCHECK|GOPRIVATE|-insecure|GOPROXY`)
	for _, path := range append(paths, "Makefile", "Dockerfile", ".goreleaser.yaml") {
		if found := careless.FindString(read(t, path)); found != "" {
			t.Errorf("%s uses %s", path, found)
		}
	}
	if regexp.MustCompile(`(?m)^replace\b`).MatchString(read(t, "go.mod")) {
		t.Error("a module is replaced")
	}
}

// What is known about dependencies, what linters find and whether a build can
// be repeated is looked at in every run.
func TestAttackUncheckedBuild(t *testing.T) {
	run := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(read(t, ".ci/run"), "")
	if !strings.Contains(run, "set -euo pipefail") {
		t.Error(".ci/run goes on after a failure")
	}
	for _, target := range []string{"lint", "vulncheck", "reproducible", "sbom"} {
		if !regexp.MustCompile(`(?m)^(?:PATH=\S+ )?make (?:\S+ )*` + target + `\b`).MatchString(run) {
			t.Errorf(".ci/run does not make %s", target)
		}
	}
}
