package apikey_test

import (
	"errors"
	"hash/crc32"
	"math/big"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
)

// secretShape tells secrets by the documented pattern and arithmetic alone, as
// somebody who writes a scanner would.
var secretShape = regexp.MustCompile("^" + apikey.SecretPattern + "$")

func looksLikeSecret(text string) bool {
	if !secretShape.MatchString(text) || len(text) != apikey.SecretLength {
		return false
	}
	sum, ok := new(big.Int).SetString(text[len(text)-6:], 62)
	return ok && sum.IsUint64() && sum.Uint64() == uint64(crc32.ChecksumIEEE([]byte(text[:len(text)-6])))
}

// withChecksum makes a secret of any text: its first bytes choose the digits.
func withChecksum(text string) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	body := []byte(apikey.SecretPrefix + strings.Repeat("0", 43))
	for i := range min(len(text), 43) {
		body[len(apikey.SecretPrefix)+i] = digits[int(text[i])%len(digits)]
	}
	sum := big.NewInt(int64(crc32.ChecksumIEEE(body))).Text(62)
	return string(body) + strings.Repeat("0", 6-len(sum)) + sum
}

// A text is a secret exactly where pattern and checksum say so; one that
// differs in any character from a secret is none.
func FuzzParseSecret(f *testing.F) {
	f.Add(newSecret(f).Reveal(), uint8(50), byte('a'))
	f.Add("", uint8(0), byte(0))
	f.Add("tk_", uint8(1), byte('K'))
	f.Fuzz(func(t *testing.T, text string, place uint8, other byte) {
		secret, err := apikey.ParseSecret(text)
		if (err == nil) != looksLikeSecret(text) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil && (!errors.Is(err, apikey.ErrMalformedSecret) || secret != (apikey.Secret{})) {
			t.Fatal("a refusal that is not ErrMalformedSecret")
		}
		if err == nil && secret.Reveal() != text {
			t.Fatal("a secret that is not what was parsed")
		}

		made := withChecksum(text)
		if _, err := apikey.ParseSecret(made); err != nil {
			t.Fatalf("%q: %v", made, err)
		}
		typo := []byte(made)
		at := int(place) % len(typo)
		if typo[at] == other {
			return
		}
		typo[at] = other
		if _, err := apikey.ParseSecret(string(typo)); err == nil {
			t.Fatalf("%q was read as a secret, and so was %q", made, typo)
		}
	})
}

var (
	plainOrigin  = regexp.MustCompile(`^([a-z][a-z0-9+.-]*)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?$`)
	plainPattern = regexp.MustCompile(`^(?:([a-z][a-z0-9+.-]*)://)?(\*\.)?([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?$`)
	plainPorts   = map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}
)

// plainHost splits a host into its labels; an address is one.
func plainHost(host string) []string {
	if inside, isIPv6 := strings.CutPrefix(host, "["); isIPv6 {
		addr, _ := netip.ParseAddr(strings.TrimSuffix(inside, "]"))
		return []string{addr.String()}
	}
	return strings.Split(host, ".")
}

// plainMatch is another reading of what [apikey.OriginPattern] documents, for
// texts of ASCII that are known to be well-formed. It reports whether their
// shapes are ones it knows, too.
func plainMatch(patternText, originText string) (matches, known bool) {
	if patternText == "null" || originText == "null" {
		return patternText == originText, true
	}
	pattern := plainPattern.FindStringSubmatch(strings.ToLower(patternText))
	origin := plainOrigin.FindStringSubmatch(strings.ToLower(originText))
	if pattern == nil || origin == nil {
		return false, false
	}
	scheme, port := origin[1], origin[3]
	if port == "" {
		port = plainPorts[scheme]
	}
	wantedPort := pattern[4]
	if wantedPort == "" {
		wantedPort = plainPorts[scheme]
	}
	if pattern[1] != "" && pattern[1] != scheme || wantedPort != port {
		return false, true
	}
	below, host := plainHost(pattern[3]), plainHost(origin[2])
	if pattern[2] == "" {
		return slices.Equal(below, host), true
	}
	return len(host) > len(below) && slices.Equal(below, host[len(host)-len(below):]), true
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > 127 })
}

// A pattern reads back as it is written, and where pattern and origin are
// ASCII it holds for what another reading of the rules says.
func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"https://app.example.io", "*.example.io", "null", "http://[::1]:80", "https://bücher.example"} {
		f.Add(s, s)
	}
	f.Add("Null", "null")
	f.Add("ｎｕｌｌ", "null")
	f.Add("https://*.example.io:8443", "HTTPS://a.B.example.io:8443")
	f.Add("wss://*.io", "wss://example.io:443")
	f.Fuzz(func(t *testing.T, patternText, originText string) {
		origin, originErr := apikey.ParseOrigin(originText)
		pattern, err := apikey.ParseOriginPattern(patternText)
		if err != nil {
			return
		}
		again, err := apikey.ParseOriginPattern(pattern.String())
		if err != nil || again != pattern {
			t.Fatalf("%q does not read back: %v", pattern.String(), err)
		}
		if originErr != nil {
			if pattern.Matches(origin) {
				t.Fatalf("%q holds for %q, which is no origin", patternText, originText)
			}
			return
		}
		if !isASCII(patternText) || !isASCII(originText) {
			return
		}
		want, known := plainMatch(patternText, originText)
		if !known {
			t.Fatalf("%q or %q was admitted", patternText, originText)
		}
		if pattern.Matches(origin) != want {
			t.Fatalf("%q against %q: got %v", originText, patternText, !want)
		}
		if again.Matches(origin) != want {
			t.Fatalf("%q against %q written again: got %v", originText, pattern.String(), !want)
		}
	})
}
