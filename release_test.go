package authz_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// instruction is one of a Dockerfile.
type instruction struct{ name, rest string }

// dockerfile returns the instructions of the Dockerfile, without comments and
// with lines joined that are continued.
func dockerfile(t *testing.T) (all []instruction) {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(read(t, "Dockerfile"), "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		all = append(all, instruction{name, strings.Join(strings.Fields(rest), " ")})
	}
	return all
}

// The image is one static binary, run by a user that may do nothing.
func TestDockerfile(t *testing.T) {
	known := []string{"ARG", "FROM", "WORKDIR", "COPY", "RUN", "VOLUME", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
	stages := map[string]bool{}
	var last []instruction
	from := regexp.MustCompile(`^(?:--platform=\S+ )?(\S+)(?: AS (\S+))?$`)
	for _, i := range dockerfile(t) {
		if !slices.Contains(known, i.name) {
			t.Errorf("%s is no instruction that is expected", i.name)
		}
		if i.name == "FROM" {
			match := from.FindStringSubmatch(i.rest)
			if match == nil {
				t.Fatalf("FROM %s", i.rest)
			}
			if match[2] != "" {
				stages[match[2]] = true
			}
			last = nil
		}
		last = append(last, i)
		if name, found := strings.CutPrefix(strings.Split(i.rest, " ")[0], "--from="); i.name == "COPY" && found && !stages[name] {
			t.Errorf("COPY %s: there is no such stage before it", i.rest)
		}
	}
	for _, want := range []instruction{
		{"FROM", "gcr.io/distroless/static-debian12:nonroot"},
		{"USER", "65532:65532"},
		{"ENTRYPOINT", `["/tokenkit-authz"]`},
		{"VOLUME", "/data"},
	} {
		if !slices.Contains(last, want) {
			t.Errorf("the last stage lacks %v: %v", want, last)
		}
	}
	if slices.ContainsFunc(last, func(i instruction) bool { return i.name == "RUN" }) {
		t.Error("something runs in the last stage, which has no shell")
	}
	for _, name := range []string{"built", "prebuilt"} { // what BINARY may be
		if !stages[name] {
			t.Errorf("there is no stage %s", name)
		}
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if n := strings.Count(read(t, "Dockerfile"), "golang:"+version[1]+" "); n != 2 {
		t.Errorf("Go %s builds %d of 2 stages", version[1], n)
	}
}

// Releases, images and the test of reproducible builds build alike.
func TestReleaseFlags(t *testing.T) {
	var release struct {
		Builds []struct {
			Env, Flags, Ldflags []string
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, ".goreleaser.yaml")), &release); err != nil {
		t.Fatal(err)
	}
	build := release.Builds[0]
	ldflags, _, _ := strings.Cut(strings.Join(build.Ldflags, " "), "main.version=")
	for _, path := range []string{"Dockerfile", ".ci/reproducible"} {
		text := read(t, path)
		for _, want := range slices.Concat(build.Env, build.Flags, []string{ldflags + "main.version="}) {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", path, want)
			}
		}
	}
	if !slices.Contains(build.Flags, "-trimpath") || !slices.Contains(build.Env, "CGO_ENABLED=0") {
		t.Errorf("builds depend on the machine: %+v", build)
	}
}

// Every tool has one version, and staticcheck is among the linters.
func TestToolsArePinned(t *testing.T) {
	paths, err := filepath.Glob(".ci/*")
	if err != nil || len(paths) == 0 {
		t.Fatal(err, paths)
	}
	run := regexp.MustCompile(`(?:go run|go install|\$\(GO\) run|:= *)\s+\S*[a-z]+\.\S+/\S+`)
	pinned := regexp.MustCompile(`@v\d+\.\d+\.\d+$`)
	tools := 0
	for _, path := range append(paths, "Makefile") {
		for _, command := range run.FindAllString(read(t, path), -1) {
			tools++
			if !pinned.MatchString(command) {
				t.Errorf("%s: %s has no version", path, command)
			}
		}
		for _, unpinned := range regexp.MustCompile(`pip" install (?:-\S+ )*[^-\s]\S*`).FindAllString(read(t, path), -1) {
			if tools++; !strings.Contains(unpinned, "==") {
				t.Errorf("%s: %s has no version", path, unpinned)
			}
		}
	}
	if tools < 6 {
		t.Errorf("only %d tools were found", tools)
	}
	var lint struct {
		Linters struct{ Enable []string }
	}
	if err := yaml.Unmarshal([]byte(read(t, ".golangci.yml")), &lint); err != nil || !slices.Contains(lint.Linters.Enable, "staticcheck") {
		t.Errorf("staticcheck is not among the linters: %v, %v", lint, err)
	}
}
