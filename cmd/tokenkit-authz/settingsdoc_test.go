package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var updateDocs = flag.Bool("update", false, "write docs/settings.md anew")

// The list of settings is what serve takes. Run with -update to write it anew.
func TestSettingsDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Settings of serve

Each can be a flag, an environment variable or a line of the YAML file that ` + "`--config`" + ` names; the first of these that is given
wins. ` + "`--session-ttl 8h`" + `, ` + "`TOKENKIT_AUTHZ_SESSION_TTL=8h`" + ` and ` + "`session_ttl: 8h`" + ` say the same. ` + "`tokenkit-authz config check`" + ` reports
what serve would refuse, ` + "`config show`" + ` what holds, ` + "`config schema`" + ` prints the file's JSON schema. A duration is a number with a unit:
` + "`300ms`, `5s`, `1h30m`" + `. Settings with a mark hold at once when serve gets SIGHUP, the others when it is started.

| setting | kind | default | SIGHUP | |
|---|---|---|---|---|
`)
	var s settings
	eachSetting(s.defaults(), func(f *pflag.Flag) {
		kind := map[string]string{"string": "text", "stringSlice": "list", "bool": "true or false", "uint32": "number", "int": "number"}[f.Value.Type()]
		if kind == "" {
			kind = f.Value.Type()
		}
		value := strings.Trim(f.DefValue, "[]")
		if value != "" {
			value = "`" + value + "`"
		}
		live := ""
		if slices.Contains(reloadable, f.Name) {
			live = "✓"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", settingName(f.Name), kind, value, live, strings.ReplaceAll(f.Usage, "|", `\|`))
	})
	const path = "../../docs/settings.md"
	if *updateDocs {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil { //nolint:gosec // it is for everybody
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != b.String() {
		t.Errorf("%s is out of date; write it anew with: go test ./cmd/tokenkit-authz -run SettingsDocument -update", path)
	}
}
