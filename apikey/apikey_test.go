package apikey_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"pgregory.net/rapid"
)

func newSecret(t testing.TB) apikey.Secret {
	t.Helper()
	secret, err := apikey.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestSecretRoundTrip(t *testing.T) {
	pattern := regexp.MustCompile("^" + apikey.SecretPattern + "$")
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "raw")
		secret, err := apikey.NewSecret(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		text := secret.Reveal()
		if !pattern.MatchString(text) || len(text) != apikey.SecretLength {
			t.Fatalf("a secret of %d characters does not match its pattern", len(text))
		}
		parsed, err := apikey.ParseSecret(text)
		if err != nil || parsed.Hash() != secret.Hash() {
			t.Fatalf("parsing its own secret: %v", err)
		}
	})
}

// Two sources of random bytes that differ in any bit give different secrets.
func TestSecretKeepsEveryBit(t *testing.T) {
	seen := map[string]int{}
	for bit := range 257 {
		raw := make([]byte, 32)
		if bit < 256 {
			raw[bit/8] = 1 << (bit % 8)
		}
		secret, err := apikey.NewSecret(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if other, found := seen[secret.Reveal()]; found {
			t.Fatalf("bits %d and %d give the same secret", other, bit)
		}
		seen[secret.Reveal()] = bit
	}
}

func TestNewSecretNeedsAllItsRandomBytes(t *testing.T) {
	if _, err := apikey.NewSecret(bytes.NewReader(make([]byte, 31))); err == nil {
		t.Fatal("a secret was made from 31 random bytes")
	}
}

func TestParseSecretRefuses(t *testing.T) {
	good := newSecret(t).Reveal()
	for i := range good {
		for _, c := range []byte("0Zz-_ ,\x00\xff") {
			if good[i] == c {
				continue
			}
			bad := good[:i] + string([]byte{c}) + good[i+1:]
			if _, err := apikey.ParseSecret(bad); !errors.Is(err, apikey.ErrMalformedSecret) {
				t.Fatalf("changing character %d to %q: got %v", i, c, err)
			}
		}
	}
	for name, text := range map[string]string{
		"empty": "", "short": good[:len(good)-1], "long": good + "0", "joined": good + "," + good,
		"space before": " " + good, "space after": good + " ", "other case": strings.ToUpper(good),
	} {
		if _, err := apikey.ParseSecret(text); !errors.Is(err, apikey.ErrMalformedSecret) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	secret := newSecret(t)
	value := secret.Reveal()
	credential := apikey.OneCredential(value)
	request := apikey.Request{Credential: credential}
	var out bytes.Buffer
	for _, v := range []any{secret, &secret, credential, request, &request, []any{secret}, map[string]any{"k": secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	hexValue := fmt.Sprintf("%x", value[10:20])
	if strings.Contains(out.String(), value[10:20]) || strings.Contains(out.String(), hexValue) {
		t.Fatal("a secret was printed")
	}
	if hint := secret.Hint(); !strings.HasSuffix(value, hint[len(hint)-4:]) || len(hint) > 12 {
		t.Fatal("the hint is not the last four characters")
	}
}

func TestOriginMatching(t *testing.T) {
	for _, c := range []struct {
		name, pattern, origin string
		want                  bool
	}{
		{"same", "https://app.example.io", "https://app.example.io", true},
		{"other host", "https://app.example.io", "https://www.example.io", false},
		{"other scheme", "https://app.example.io", "http://app.example.io", false},
		{"host case", "https://App.Example.IO", "https://aPP.example.io", true},
		{"scheme case", "HTTPS://app.example.io", "https://app.example.io", true},
		{"default port in pattern", "https://app.example.io:443", "https://app.example.io", true},
		{"default port in origin", "http://app.example.io", "http://app.example.io:80", true},
		{"other port", "https://app.example.io", "https://app.example.io:8443", false},
		{"own port", "https://app.example.io:8443", "https://app.example.io:8443", true},
		{"https port under http", "http://app.example.io:443", "https://app.example.io", false},
		{"parent", "https://app.example.io", "https://example.io", false},
		{"child", "https://example.io", "https://app.example.io", false},
		{"suffix without a dot", "https://example.io", "https://evilexample.io", false},
		{"prefix", "https://example.io", "https://example.io.evil.test", false},
		{"user info", "https://example.io", "https://example.io@evil.test", false},
		{"user info before", "https://example.io", "https://evil@example.io", false},
		{"path", "https://example.io", "https://example.io/", false},
		{"trailing dot", "https://example.io", "https://example.io.", false},
		{"space", "https://example.io", "https://example.io ", false},
		{"joined", "https://example.io", "https://example.io,https://example.io", false},
		{"empty", "https://example.io", "", false},
		{"no scheme", "https://example.io", "example.io", false},
		{"IDN pattern", "https://bücher.example", "https://xn--bcher-kva.example", true},
		{"IDN origin", "https://xn--bcher-kva.example", "https://BÜCHER.example", true},
		{"IPv4", "http://127.0.0.1:3000", "http://127.0.0.1:3000", true},
		{"IPv6", "http://[::1]:3000", "http://[0:0::1]:3000", true},
		{"null", "null", "null", true},
		{"null for an origin", "https://example.io", "null", false},
		{"an origin for null", "null", "https://null", false},
		{"null is lower case", "null", "NULL", false},
		{"bare under https", "example.io", "https://example.io", true},
		{"bare under http", "example.io", "http://example.io", true},
		{"bare under another scheme", "example.io", "app://example.io", true},
		{"bare and a port", "example.io", "https://example.io:8443", false},
		{"bare and the other default port", "example.io", "https://example.io:80", false},
		{"bare with its port", "example.io:8443", "https://example.io:8443", true},
		{"bare and a child", "example.io", "https://app.example.io", false},
		{"wildcard child", "https://*.example.io", "https://app.example.io", true},
		{"wildcard grandchild", "https://*.example.io", "https://a.b.example.io", true},
		{"wildcard parent", "https://*.example.io", "https://example.io", false},
		{"wildcard lookalike", "https://*.example.io", "https://evilexample.io", false},
		{"wildcard and path", "https://*.example.io", "https://evil.test/.example.io", false},
		{"wildcard and query", "https://*.example.io", "https://evil.test?.example.io", false},
		{"wildcard and fragment", "https://*.example.io", "https://evil.test#.example.io", false},
		{"wildcard and backslash", "https://*.example.io", `https://evil.test\.example.io`, false},
		{"wildcard and user", "https://*.example.io", "https://evil.test:80@a.example.io", false},
		{"wildcard empty label", "https://*.example.io", "https://.example.io", false},
		{"wildcard other scheme", "https://*.example.io", "http://app.example.io", false},
		{"bare wildcard", "*.example.io", "http://app.example.io", true},
		{"wildcard port", "https://*.example.io:8443", "https://app.example.io:8443", true},
		{"scheme without port", "chrome-extension://abcdef", "chrome-extension://abcdef", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pattern, err := apikey.ParseOriginPattern(c.pattern)
			if err != nil {
				t.Fatal(err)
			}
			key := apikey.Key{AllowedOrigins: []apikey.OriginPattern{pattern}}
			decision := apikey.Decide(&key, &apikey.Request{Origin: c.origin, HasOrigin: true})
			if decision.Allowed() != c.want {
				t.Errorf("%q against %q: got %v, want allowed %v", c.origin, c.pattern, decision.Reason, c.want)
			}
			again, err := apikey.ParseOriginPattern(pattern.String())
			if err != nil || again != pattern {
				t.Errorf("%q reads back as %+v, %v", pattern.String(), again, err)
			}
		})
	}
}

func TestOriginPatternRefuses(t *testing.T) {
	for _, text := range []string{"Null", "NULL", "ｎｕｌｌ",
		"", "*", "https://", "https://*", "https://*.", "*.", "https://a.example/", "https://a.example/x", "https://a.example?x",
		"https://u@a.example", "https://a.example:0", "https://a.example:65536", "https://a.example:", "https://a.example:+1",
		"https://a.example:080", "1http://a.example", "ht tp://a.example", "https://a..example", "https://.example", "https://a.example.",
		"https://a.*.example", "https://*.127.0.0.1", "https://[::1", "https://[127.0.0.1]", "https://[fe80::1%25eth0]", "https://1.2.3",
		"https://999.1.1.1", "a b", "a,b", "http://\xff", "https://" + strings.Repeat("a", 64) + ".example", "https://xn--\u00fc.example",
		"//a.example", "a/b",
	} {
		if pattern, err := apikey.ParseOriginPattern(text); err == nil {
			t.Errorf("%q was read as %v", text, pattern)
		}
	}
}

func TestAddressPrefix(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"203.0.113.10", "203.0.113.10/32"}, {"203.0.113.0/24", "203.0.113.0/24"}, {"0.0.0.0/0", "0.0.0.0/0"},
		{"2001:db8::1", "2001:db8::1/128"}, {"2001:DB8::/32", "2001:db8::/32"}, {"::ffff:203.0.113.10", "203.0.113.10/32"},
		{"::ffff:203.0.113.0/120", "203.0.113.0/24"},
	} {
		prefix, err := apikey.ParseAddressPrefix(c.text)
		if err != nil || prefix.String() != c.want {
			t.Errorf("%s: got %v, %v, want %s", c.text, prefix, err, c.want)
		}
	}
	for _, text := range []string{"", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/24", "2001:db8::1/64", "fe80::1%eth0",
		"fe80::%eth0/64", "::ffff:1.2.3.4/95", "1.2.3.4/", "01.2.3.4", "1.2.3.4:80", " 1.2.3.4"} {
		if prefix, err := apikey.ParseAddressPrefix(text); err == nil {
			t.Errorf("%q was read as %v", text, prefix)
		}
	}
}

func TestDecide(t *testing.T) {
	origin, err := apikey.ParseOriginPattern("https://app.example.io")
	if err != nil {
		t.Fatal(err)
	}
	origins := []apikey.OriginPattern{origin}
	ips := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	inside, outside := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("198.51.100.1")
	good, evil := "https://app.example.io", "https://evil.example"
	type rule struct {
		name    string
		origins []apikey.OriginPattern
		ips     []netip.Prefix
		strict  bool
		origin  string // "": no header
		addr    netip.Addr
		want    apikey.Reason
	}
	ok, badOrigin, badAddr := apikey.ReasonAllowed, apikey.ReasonOrigin, apikey.ReasonAddress
	for _, c := range []rule{
		{"open, no origin", nil, nil, false, "", outside, ok},
		{"open, origin", nil, nil, false, evil, outside, ok},
		{"open, unknown address", nil, nil, false, "", netip.Addr{}, ok},
		{"origins, match", origins, nil, false, good, outside, ok},
		{"origins, mismatch", origins, nil, false, evil, outside, badOrigin},
		{"origins, no header", origins, nil, false, "", outside, ok},
		{"addresses, match", nil, ips, false, "", inside, ok},
		{"addresses, mismatch", nil, ips, false, "", outside, badAddr},
		{"addresses, unknown", nil, ips, false, "", netip.Addr{}, badAddr},
		{"addresses, any origin skips them", nil, ips, false, evil, outside, ok},
		{"both, origin decides", origins, ips, false, good, outside, ok},
		{"both, bad origin from a good address", origins, ips, false, evil, inside, badOrigin},
		{"both, address decides", origins, ips, false, "", inside, ok},
		{"both, bad address", origins, ips, false, "", outside, badAddr},
		{"strict open", nil, nil, true, "", outside, ok},
		{"strict origins, no header", origins, nil, true, "", inside, badOrigin},
		{"strict origins, match", origins, nil, true, good, outside, ok},
		{"strict addresses, forged origin", nil, ips, true, evil, outside, badAddr},
		{"strict addresses, match", nil, ips, true, "", inside, ok},
		{"strict both, good", origins, ips, true, good, inside, ok},
		{"strict both, bad address", origins, ips, true, good, outside, badAddr},
		{"strict both, bad origin", origins, ips, true, evil, inside, badOrigin},
		{"strict both, no origin", origins, ips, true, "", inside, badOrigin},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, byKey := range []bool{true, false} {
				key := apikey.Key{AllowedOrigins: c.origins, AllowedIPs: c.ips, Strict: c.strict && byKey}
				request := apikey.Request{Origin: c.origin, HasOrigin: c.origin != "", Address: c.addr, Strict: c.strict && !byKey}
				if got := apikey.Decide(&key, &request); got.Reason != c.want || got.Key != &key {
					t.Errorf("strict by key %v: got %v, want %v", byKey, got.Reason, c.want)
				}
			}
		})
	}
	if (apikey.Decision{}).Allowed() {
		t.Error("the zero decision allows")
	}
	if got := apikey.Decide(nil, &apikey.Request{}); got.Reason != apikey.ReasonUnknownKey {
		t.Errorf("no key: got %v", got.Reason)
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	pattern, err := apikey.ParseOriginPattern("https://*.example.io")
	if err != nil {
		t.Fatal(err)
	}
	key := apikey.Key{AllowedOrigins: []apikey.OriginPattern{pattern}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Strict: true}
	value := newSecret(t).Reveal()
	request := apikey.Request{Credential: apikey.OneCredential(value), Origin: "https://app.example.io", HasOrigin: true, Address: netip.MustParseAddr("10.1.2.3")}
	if n := testing.AllocsPerRun(100, func() {
		secret, err := request.Credential.Secret()
		if err != nil || secret.Hash() == (apikey.Hash{}) || !apikey.Decide(&key, &request).Allowed() {
			panic("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations a decision", n)
	}
}

func TestKeyValidate(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/8")
	for _, c := range []struct {
		name, field string
		key         apikey.Key
	}{
		{"no name", "name", apikey.Key{}},
		{"blank", "name", apikey.Key{Name: "  "}},
		{"space at the end", "name", apikey.Key{Name: "a "}},
		{"CR", "name", apikey.Key{Name: "a\rb"}},
		{"LF", "name", apikey.Key{Name: "a\nb"}},
		{"NUL", "name", apikey.Key{Name: "a\x00b"}},
		{"line separator", "name", apikey.Key{Name: "a\u2028b"}},
		{"direction override", "name", apikey.Key{Name: "a\u202eb"}},
		{"not UTF-8", "name", apikey.Key{Name: "a\xffb"}},
		{"too long", "name", apikey.Key{Name: strings.Repeat("ä", 101)}},
		{"too many origins", "allowed_origins", apikey.Key{Name: "a", AllowedOrigins: make([]apikey.OriginPattern, 101)}},
		{"zero origin", "allowed_origins[0]", apikey.Key{Name: "a", AllowedOrigins: make([]apikey.OriginPattern, 1)}},
		{"too many addresses", "allowed_ips", apikey.Key{Name: "a", AllowedIPs: make([]netip.Prefix, 101)}},
		{"zero address", "allowed_ips[1]", apikey.Key{Name: "a", AllowedIPs: []netip.Prefix{prefix, {}}}},
		{"host bits", "allowed_ips[0]", apikey.Key{Name: "a", AllowedIPs: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 8)}}},
		{"limit", "rate_limit_per_hour", apikey.Key{Name: "a", RateLimitPerHour: apikey.MaxRateLimit + 1}},
	} {
		var field *apikey.FieldError
		if err := c.key.Validate(); !errors.As(err, &field) || field.Field != c.field {
			t.Errorf("%s: got %v, want an error for %s", c.name, err, c.field)
		}
	}
	good := apikey.Key{Name: strings.Repeat("ä", 100), AllowedIPs: []netip.Prefix{prefix}, RateLimitPerHour: apikey.MaxRateLimit}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
