package real_test

import (
	"strings"
	"testing"

	"github.com/tokenkithq/authz/internal/real"
)

// verdict is a test that notes how it ended instead of ending so.
type verdict struct {
	testing.TB
	skipped, failed bool
	reason          string
}

func (v *verdict) Helper() {}

func (v *verdict) Skipf(_ string, args ...any)  { v.skipped, v.reason = true, args[0].(string) }
func (v *verdict) Fatalf(_ string, args ...any) { v.failed, v.reason = true, args[0].(string) }

func TestRequire(t *testing.T) {
	for _, c := range []struct {
		name, require   string
		programs        []string
		found           string
		skipped, failed bool
	}{
		{name: "installed", programs: []string{"go"}, found: "go"},
		{name: "installed under another name", programs: []string{"no-such-program", "go"}, found: "go"},
		{name: "missing", programs: []string{"no-such-program"}, skipped: true},
		{name: "missing where it must not", require: "1", programs: []string{"no-such-program"}, failed: true},
		{name: "installed where it must be", require: "1", programs: []string{"go"}, found: "go"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TOKENKIT_REQUIRE", c.require)
			v := &verdict{TB: t}
			path := real.Require(v, c.programs...)
			if v.skipped != c.skipped || v.failed != c.failed || !strings.HasSuffix(path, c.found) {
				t.Errorf("got %q, skipped %v, failed %v", path, v.skipped, v.failed)
			}
			if (v.skipped || v.failed) && !strings.Contains(v.reason, "no-such-program") {
				t.Errorf("the reason %q does not name the program", v.reason)
			}
		})
	}
}
