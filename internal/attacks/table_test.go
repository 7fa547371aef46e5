package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/envoy/conformance"
)

const root = "../.."

func table(t *testing.T) []attack {
	t.Helper()
	file, err := os.Open(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	attacks, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	return attacks
}

// functions returns the tests in the sources of a folder.
func functions(t *testing.T, folder string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil {
				found[f.Name.Name] = true
			}
		}
	}
	return found
}

// Every test in the table is there, and every attack is in the table.
func TestTableIsWhole(t *testing.T) {
	attacks := table(t)
	if len(attacks) < 80 {
		t.Errorf("there are %d lines, want 80 or more", len(attacks))
	}
	cases := map[string]bool{}
	for _, group := range conformance.Groups() {
		for _, c := range group.Cases {
			cases["TestConformance/envoy/"+group.Name+"/"+c.Name] = true
		}
	}
	told, used, parsed := map[string]bool{}, map[name]bool{}, map[string]map[string]bool{}
	for _, a := range attacks {
		if told[a.surface+a.attack] {
			t.Errorf("there are two lines of %s: %s", a.surface, a.attack)
		}
		told[a.surface+a.attack] = true
		if strings.Contains(a.mutation, "to do") {
			t.Errorf("%s: no test was seen to fail yet: %s", a.attack, a.mutation)
		}
		for _, n := range a.tests {
			if parsed[n.folder] == nil {
				parsed[n.folder] = functions(t, filepath.Join(root, n.folder))
			}
			if !parsed[n.folder][n.top()] {
				t.Errorf("%s: there is no %s", a.attack, n)
			}
			if n.top() == "TestConformance" && !cases[n.test] {
				t.Errorf("%s: there is no case %s", a.attack, n)
			}
			used[name{n.folder, n.top()}] = true
		}
	}
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if base := entry.Name(); base != ".." && strings.HasPrefix(base, ".") || base == "testdata" {
			return filepath.SkipDir
		}
		folder, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for function := range functions(t, path) {
			if strings.HasPrefix(function, "TestAttack") && !used[name{filepath.ToSlash(folder), function}] {
				t.Errorf("%s.%s is in no line of the table", folder, function)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	const start = header + "\n|---|---|---|---|---|\n"
	for _, c := range []struct{ name, text, want string }{
		{"a line", start + "| admin | names | hosts | `admin.TestHosts/a name`, `cmd/x-y.TestA`, `authz.TestB` | the list |\n\nprose | x\n", ""},
		{"no test", start + "| admin | names | hosts | by eye | the list |\n", "line 3: expected the name of a test"},
		{"no mutation", start + "| admin | names | hosts | `a.TestB` |  |\n", "line 3: cell 5 is empty"},
		{"a cell too few", start + "| admin | names | hosts | `a.TestB` |\n", "line 3: expected 5 cells"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := read(strings.NewReader(c.text))
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %s", err, c.want)
				}
				return
			}
			if err != nil || len(got) != 1 || len(got[0].tests) != 3 || got[0].tests[0].reported() != "TestHosts/a_name" || got[0].tests[1].folder != "cmd/x-y" ||
				got[0].tests[2].folder != "." || got[0].tests[2].String() != "authz.TestB" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// Only what ran and passed is stopped.
func TestOpen(t *testing.T) {
	o := &outcomes{of: map[name]string{{"a", "TestGood/a_case"}: "pass", {"a", "TestBad"}: "fail", {"a", "TestSkipped"}: "skip"}}
	for test, want := range map[string]string{
		"TestGood/a case": "", "TestBad": "a.TestBad failed", "TestSkipped": "a.TestSkipped was skipped", "TestNone": "a.TestNone did not run",
	} {
		if got := o.open(&attack{tests: []name{{"a", "TestGood/a case"}, {"a", test}}}); got != want {
			t.Errorf("%s: got %q, want %q", test, got, want)
		}
	}
}

// Every function runs once, and the longest run begins first.
func TestJobs(t *testing.T) {
	of := func(tests ...name) attack { return attack{tests: tests} }
	all := jobs([]attack{
		of(name{"admin", "TestB/x"}, name{"admin", "TestB/y"}), of(name{"cmd/a", "TestConformance/envoy/x/y"}, name{"cmd/a", "TestC"}), of(name{"cmd/a", "TestD"}),
		of(name{"admin", "TestE"}),
	})
	if got, want := fmt.Sprint(all), "[{cmd/a [TestC TestD]} {cmd/a [TestConformance]} {admin [TestB TestE]}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
