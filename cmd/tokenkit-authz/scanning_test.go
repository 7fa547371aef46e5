package main

import (
	"crypto/rand"
	"os"
	"regexp"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v3"

	"github.com/tokenkithq/authz/apikey"
)

// scannerRules are the expressions of docs/secret-scanning.md, by scanner. A
// key is their first group.
func scannerRules(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	read := func(path string) string {
		text, err := os.ReadFile("../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	document := regexp.MustCompile(`(?m)^    (.*)$`).FindAllStringSubmatch(read("docs/secret-scanning.md"), -1)
	if len(document) != 1 || document[0][1] != apikey.SecretPattern {
		t.Fatalf("documented %q, the program uses %q", document, apikey.SecretPattern)
	}
	toml := read("examples/secret-scanning/gitleaks.toml")
	gitleaks := regexp.MustCompile(`(?m)^regex = '''(.*)'''$`).FindStringSubmatch(toml)
	var trufflehog struct {
		Detectors []struct {
			Name     string
			Keywords []string
			Regex    map[string]string
		}
	}
	if err := yaml.Unmarshal([]byte(read("examples/secret-scanning/trufflehog.yaml")), &trufflehog); err != nil {
		t.Fatal(err)
	}
	if gitleaks == nil || len(trufflehog.Detectors) != 1 || len(trufflehog.Detectors[0].Keywords) != 1 ||
		trufflehog.Detectors[0].Keywords[0] != apikey.SecretPrefix || !strings.Contains(toml, `keywords = ["`+apikey.SecretPrefix+`"]`) {
		t.Fatal("a rule lacks its expression or the keyword that every key holds")
	}
	return map[string]*regexp.Regexp{
		"gitleaks":   regexp.MustCompile(gitleaks[1]),
		"TruffleHog": regexp.MustCompile(trufflehog.Detectors[0].Regex["key"]),
		// What GitHub wants before and after, unless it is told otherwise.
		"GitHub": regexp.MustCompile(`(?:\A|[^0-9A-Za-z])(` + document[0][1] + `)(?:\z|[^0-9A-Za-z])`),
	}
}

// The documented rules find every key, wherever people leave it, and nothing
// that is shorter, longer or of another alphabet.
func TestScannerRules(t *testing.T) {
	for scanner, rule := range scannerRules(t) {
		t.Run(scanner, func(t *testing.T) {
			for range 1000 {
				secret, err := apikey.NewSecret(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				key := secret.Reveal()
				for _, around := range [][2]string{
					{"", ""}, {"api-key: ", "\n"}, {`{"key":"`, `"}`}, {"curl -H 'api-key: ", "' https://api.example.io"}, {"https://api.example.io/?key=", "&a=b"},
					{"API_KEY=", " "}, {"prefix_", "_suffix"}, {"é", "é"}, {"\x00", "\x00"},
				} {
					match := rule.FindStringSubmatch(around[0] + key + around[1])
					if match == nil || match[1] != key {
						t.Fatalf("not found between %q and %q", around[0], around[1])
					}
				}
				for name, near := range map[string]string{
					"shorter": key[:len(key)-1], "longer": key + "a", "longer before": "a" + key, "another prefix": "tx_" + key[3:],
					"upper case": "TK_" + key[3:], "no underscore": "tk-" + key[3:], "another alphabet": key[:20] + "-" + key[21:], "broken": key[:20] + "\n" + key[20:],
				} {
					if rule.MatchString(near) {
						t.Fatalf("%s was found", name)
					}
				}
			}
		})
	}
}
