package telemetry

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz"
	"github.com/tokenkithq/authz/extauthz/limit"
)

func secretText(t testing.TB) string {
	t.Helper()
	secret, err := apikey.NewSecret(bytes.NewReader(bytes.Repeat([]byte{9}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

func TestDecisionLine(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("", 3600))
	key := &apikey.Key{ID: 7, Name: `the "web"`}
	for _, c := range []struct {
		name  string
		check extauthz.Checked
		oneIn uint32
		want  string
	}{
		{
			"allowed",
			extauthz.Checked{
				Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: apikey.ReasonAllowed, Key: key}, At: at},
				Address: netip.MustParseAddr("2001:db8::1"), Method: "GET", Host: "api.example.io", Path: "/a\n\"b", RequiredScope: "read", RequestID: "r-1", Duration: 1500,
			}, 10,
			`{"time":"2026-01-02T02:04:05.000000678Z","result":"allowed","reason":"allowed","key_id":7,"key_name":"the \"web\"","address":"2001:db8::1","method":"GET","host":"api.example.io","path":"/a\n\"b","scope":"read","request_id":"r-1","one_in":10,"duration_ns":1500}`,
		},
		{
			"anonymous", extauthz.Checked{Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: apikey.ReasonAnonymous}, At: at}}, 1,
			`{"time":"2026-01-02T02:04:05.000000678Z","result":"allowed","reason":"anonymous","duration_ns":0}`,
		},
		{
			"denied", extauthz.Checked{Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: apikey.ReasonOrigin, Key: key}, At: at, Counted: true}, Path: "/"}, 1,
			`{"time":"2026-01-02T02:04:05.000000678Z","result":"denied","reason":"origin_not_allowed","key_id":7,"key_name":"the \"web\"","path":"/","counted":true,"duration_ns":0}`,
		},
		{
			"limiter full", extauthz.Checked{Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: apikey.ReasonRateLimit}, At: at, Limit: limit.Result{Full: true}}}, 1,
			`{"time":"2026-01-02T02:04:05.000000678Z","result":"denied","reason":"rate_limited","limiter_full":true,"duration_ns":0}`,
		},
		{
			"error", extauthz.Checked{Outcome: extauthz.Outcome{At: at}, Err: status.Error(codes.Unavailable, "no"), Duration: time.Millisecond}, 1,
			`{"time":"2026-01-02T02:04:05.000000678Z","result":"error","error":"Unavailable","duration_ns":1000000}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendDecision(nil, &c.check, c.oneIn)); got != c.want+"\n" {
				t.Errorf("got  %swant %s", got, c.want)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	secret := secretText(t)
	const token = "tks_abcDEF-123_abcdefghijabcdefghijabcdefghij0"
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "/things/1", "/things/1"},
		{"a key", "/v1/" + secret + "/things", "/v1/[redacted]/things"},
		{"a key that is escaped", "/v1/tk%5F" + secret[3:], "/v1/[redacted]"},
		{"in lower case too", "/v1/tk%5f" + secret[3:], "/v1/[redacted]"},
		{"a session token", token, "[redacted]"},
		{"an invitation", "tki" + token[3:], "[redacted]"},
		{"several", secret + "/" + token + "/" + secret, "[redacted]/[redacted]/[redacted]"},
		{"in a word", "x" + secret, "x[redacted]"},
		{"after a prefix", "tktk" + secret, "tktk[redacted]"},
		{"short", "/tk_short/x", "/tk_short/x"},
		{"ends", "/tk", "/tk"},
		{"ends later", "/tks_", "/tks_"},
		{"an escape that is cut", "/tk%5", "/tk%5"},
	} {
		if got := redact(c.text); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Nothing of a key is left where a text is cut within it.
func TestDecisionLineCutsNoKey(t *testing.T) {
	check := extauthz.Checked{Path: strings.Repeat("/", maxPath-10) + secretText(t)}
	if line := string(appendDecision(nil, &check, 1)); strings.Contains(line, "tk_") {
		t.Errorf("the beginning of the key is in %s", line)
	}
}

// Whatever clients send, a line is one line of JSON, of a bounded length, in
// UTF-8, without the key.
func TestDecisionLineOfAnything(t *testing.T) {
	secret := secretText(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.Map(rapid.IntRange(0, 5000), func(n int) string { return strings.Repeat("é", n) }),
			rapid.Map(rapid.String(), func(s string) string { return s + secret + s }),
			rapid.Map(rapid.IntRange(0, 1100), func(n int) string { return strings.Repeat("/", n) + secret }),
		)
		check := extauthz.Checked{
			Method: text.Draw(t, "method"), Path: text.Draw(t, "path"), Host: text.Draw(t, "host"), RequestID: text.Draw(t, "id"),
			Outcome: extauthz.Outcome{Decision: apikey.Decision{Reason: apikey.ReasonScope, Key: &apikey.Key{Name: text.Draw(t, "name")}}},
		}
		line := appendDecision(nil, &check, 1)
		if bytes.Count(line, newline) != 1 || line[len(line)-1] != '\n' {
			t.Errorf("not one line: %q", line)
		}
		if !utf8.Valid(line) || len(line) > 12_000 {
			t.Errorf("%d bytes, UTF-8 %v", len(line), utf8.Valid(line))
		}
		if strings.Contains(string(line), secret[:20]) {
			t.Errorf("the key is in %q", line)
		}
		var read map[string]any
		if err := json.Unmarshal(line, &read); err != nil {
			t.Errorf("%v: %q", err, line)
		}
	})
}
