package apikey_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
)

// tableStart and tableEnd frame the truth table in docs/enforcement.md.
const (
	tableStart = "<!-- the table is checked against the code: go test ./apikey -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// truthTable decides each combination of a key's lists and a request's shape.
func truthTable(t *testing.T) string {
	pattern, err := apikey.ParseOriginPattern("https://app.example.io")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| `allowed_origins` | `allowed_ips` | request's origin | request's address | not strict | strict |\n|---|---|---|---|---|---|\n")
	for _, origins := range [][]apikey.OriginPattern{nil, {pattern}} {
		for _, ips := range [][]netip.Prefix{nil, {netip.MustParsePrefix("203.0.113.0/24")}} {
			for _, origin := range []string{"", "https://app.example.io", "https://evil.example"} {
				for _, address := range []string{"203.0.113.10", "198.51.100.1"} {
					if len(ips) == 0 && address != "203.0.113.10" || len(origins) == 0 && origin == "https://evil.example" {
						continue // decided as the row before
					}
					list := func(n int) string { return map[bool]string{true: "some", false: "empty"}[n > 0] }
					originText := map[string]string{"": "none", "https://app.example.io": "listed", "https://evil.example": "another"}[origin]
					if origin != "" && len(origins) == 0 {
						originText = "any"
					}
					addressText := map[string]string{"203.0.113.10": "listed", "198.51.100.1": "another"}[address]
					if len(ips) == 0 {
						addressText = "any"
					}
					fmt.Fprintf(&b, "| %s | %s | %s | %s |", list(len(origins)), list(len(ips)), originText, addressText)
					for _, strict := range []bool{false, true} {
						key := apikey.Key{AllowedOrigins: origins, AllowedIPs: ips, Strict: strict}
						decision := apikey.Decide(&key, &apikey.Request{Origin: origin, HasOrigin: origin != "", Address: netip.MustParseAddr(address)})
						text := "allowed"
						if !decision.Allowed() {
							text = "**`" + decision.Reason.String() + "`**"
						}
						fmt.Fprintf(&b, " %s |", text)
					}
					b.WriteByte('\n')
				}
			}
		}
	}
	return b.String()
}

// The documented table is what the code does. TOKENKIT_UPDATE=1 writes it.
func TestTruthTable(t *testing.T) {
	const path = "../docs/enforcement.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableStart)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		t.Fatal("the document has no table")
	}
	want := before + tableStart + "\n" + truthTable(t) + "\n" + tableEnd + after
	if want == string(text) {
		return
	}
	if os.Getenv("TOKENKIT_UPDATE") == "" {
		t.Fatal("the table is not what the code does; TOKENKIT_UPDATE=1 go test ./apikey writes it")
	}
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}
