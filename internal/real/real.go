// Package real finds the real programs that tests use instead of pretending to
// be them.
//
//	curl := real.Require(t, "curl")
//
// Where a program is missing the test is skipped, and says so; with
// TOKENKIT_REQUIRE=1 in the environment it fails instead, so that a machine
// which should have everything cannot pass by having nothing.
package real

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Require returns the path of the first of these programs that is installed.
// Several names are for one program that systems call differently.
func Require(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, strings.Join(names, " or ")+" is not installed")
	return ""
}

// Missing skips the test for a reason, or fails it with TOKENKIT_REQUIRE=1.
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("TOKENKIT_REQUIRE") == "1" {
		t.Fatalf("%s, and TOKENKIT_REQUIRE=1 forbids skipping", reason)
		return // for a testing.TB that goes on
	}
	t.Skipf("SKIPPED, NOT TESTED: %s", reason)
}
