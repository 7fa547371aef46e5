package apikey_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"pgregory.net/rapid"
)

func scopesOf(t testing.TB, texts ...string) []apikey.Scope {
	t.Helper()
	var scopes []apikey.Scope
	for _, text := range texts {
		scope, err := apikey.ParseScope(text)
		if err != nil {
			t.Fatal(err)
		}
		scopes = append(scopes, scope)
	}
	return scopes
}

func TestParseScope(t *testing.T) {
	for text, want := range map[string]string{
		"/": "/", "/v1/": "/v1/", "/v1/tokens": "/v1/tokens", "GET /v1/": "GET /v1/", "POST,GET,POST /v1/": "GET,POST /v1/",
		"reports": "reports", "reports:read": "reports:read", "a.b_c-1:2": "a.b_c-1:2", "/pkg.Service/Method": "/pkg.Service/Method", "/a;b": "/a;b",
	} {
		scope, err := apikey.ParseScope(text)
		if err != nil || scope.String() != want {
			t.Errorf("%q: got %q, %v", text, scope, err)
		}
		if again, err := apikey.ParseScope(scope.String()); err != nil || again.String() != want {
			t.Errorf("%q does not read back", want)
		}
	}
	for _, text := range []string{
		"", " ", "*", "GET", "GET ", "GET reports", "get /v1/", ", /v1/", "GET, /v1/", "GET  /v1/", "/v1/../", "/v1//a", "/./", "/v1/?a", "/v1/#a", "/v1/*",
		"/%76", "/a\\b", "/a\x00", "Reports", "1a", "a b", "GET /" + strings.Repeat("a", 200), "/..;x/", "http://a/",
	} {
		if scope, err := apikey.ParseScope(text); err == nil {
			t.Errorf("%q is taken for %q", text, scope)
		}
	}
}

func TestDecideScopes(t *testing.T) {
	type call struct{ method, path, required string }
	for _, c := range []struct {
		name   string
		scopes []string
		call   call
		want   bool
	}{
		{"none", nil, call{"GET", "/a", ""}, true},
		{"none, a name asked for", nil, call{"GET", "/a", "reports"}, true},
		{"none, a path nobody can read", nil, call{"GET", "/%2e%2e/", ""}, true},
		{"prefix", []string{"/v1/"}, call{"GET", "/v1/a", ""}, true},
		{"prefix itself", []string{"/v1/"}, call{"GET", "/v1/", ""}, true},
		{"prefix without its slash", []string{"/v1/"}, call{"GET", "/v1", ""}, false},
		{"prefix of another word", []string{"/v1"}, call{"GET", "/v10", ""}, false},
		{"word", []string{"/v1"}, call{"GET", "/v1", ""}, true},
		{"below the word", []string{"/v1"}, call{"GET", "/v1/a", ""}, true},
		{"word with a query", []string{"/v1"}, call{"GET", "/v1?a=/../", ""}, true},
		{"everything", []string{"/"}, call{"DELETE", "/x", ""}, true},
		{"case", []string{"/v1/"}, call{"GET", "/V1/a", ""}, false},
		{"second scope", []string{"/v1/", "/v2/"}, call{"GET", "/v2/a", ""}, true},
		{"method", []string{"GET,HEAD /v1/"}, call{"HEAD", "/v1/a", ""}, true},
		{"another method", []string{"GET,HEAD /v1/"}, call{"POST", "/v1/a", ""}, false},
		{"method of another scope", []string{"GET /v1/", "POST /v2/"}, call{"POST", "/v1/a", ""}, false},
		{"name", []string{"reports:read"}, call{"GET", "/a", "reports:read"}, true},
		{"another name", []string{"reports:read"}, call{"GET", "/a", "reports:write"}, false},
		{"name not asked for", []string{"reports:read"}, call{"GET", "/a", ""}, false},
		{"path where a name is asked for", []string{"/"}, call{"GET", "/a", "reports:read"}, false},
		{"name and path", []string{"/v1/", "reports:read"}, call{"GET", "/v1/a", "reports:read"}, true},
		{"name, but another path", []string{"/v1/", "reports:read"}, call{"GET", "/v2/a", "reports:read"}, false},
		{"no path", []string{"/"}, call{"CONNECT", "", ""}, false},
		{"asterisk", []string{"/"}, call{"OPTIONS", "*", ""}, false},
		{"dot segment", []string{"/v1/"}, call{"GET", "/v1/../admin", ""}, false},
		{"dot segment at the end", []string{"/v1/"}, call{"GET", "/v1/..", ""}, false},
		{"single dot", []string{"/v1/"}, call{"GET", "/v1/./a", ""}, false},
		{"dot segment with a parameter", []string{"/v1/"}, call{"GET", "/v1/..;x/admin", ""}, false},
		{"escaped dots", []string{"/v1/"}, call{"GET", "/v1/%2e%2E/admin", ""}, false},
		{"half escaped dots", []string{"/v1/"}, call{"GET", "/v1/.%2e/admin", ""}, false},
		{"escaped slash", []string{"/v1/"}, call{"GET", "/v1/..%2fadmin", ""}, false},
		{"escaped backslash", []string{"/v1/"}, call{"GET", "/v1/..%5cadmin", ""}, false},
		{"backslash", []string{"/v1/"}, call{"GET", "/v1/..\\admin", ""}, false},
		{"doubly escaped", []string{"/v1/"}, call{"GET", "/v1/%252e%252e/admin", ""}, false},
		{"escaped semicolon", []string{"/v1/"}, call{"GET", "/v1/..%3bx/admin", ""}, false},
		{"escaped NUL", []string{"/v1/"}, call{"GET", "/v1/a%00", ""}, false},
		{"doubled slash", []string{"/v1/"}, call{"GET", "/v1//admin", ""}, false},
		{"doubled slash at the beginning", []string{"/"}, call{"GET", "//evil/a", ""}, false},
		{"bad escape", []string{"/v1/"}, call{"GET", "/v1/%zz", ""}, false},
		{"cut escape", []string{"/v1/"}, call{"GET", "/v1/%4", ""}, false},
		{"good escape", []string{"/v1/"}, call{"GET", "/v1/caf%C3%A9", ""}, true},
		{"three dots", []string{"/v1/"}, call{"GET", "/v1/.../a..b", ""}, true},
		{"slash at the end", []string{"/v1/"}, call{"GET", "/v1/a/", ""}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := apikey.Key{Scopes: scopesOf(t, c.scopes...)}
			request := apikey.Request{Method: c.call.method, Path: c.call.path, RequiredScope: c.call.required}
			want := apikey.ReasonScope
			if c.want {
				want = apikey.ReasonAllowed
			}
			if got := apikey.Decide(&key, &request); got.Reason != want {
				t.Errorf("got %v", got.Reason)
			}
		})
	}
}

// Whatever is permitted below a prefix stays there, however a server cleans it.
func TestScopeNeverEscapes(t *testing.T) {
	scopes := scopesOf(t, "/v1/")
	pieces := rapid.SampledFrom([]string{"/", ".", "..", "%2e", "%2f", "%5c", "\\", ";", "a", "v1", "%25", "2e", "2f", "%", "//", "?", "#"})
	passed := 0
	rapid.Check(t, func(t *rapid.T) {
		path := "/v1/" + strings.Join(rapid.SliceOfN(pieces, 0, 8).Draw(t, "path"), "")
		key := apikey.Key{Scopes: scopes}
		if !apikey.Decide(&key, &apikey.Request{Method: "GET", Path: path}).Allowed() {
			return
		}
		passed++
		for range 3 { // the laxest server: it decodes again and again
			path = strings.NewReplacer("%2e", ".", "%2f", "/", "%5c", "/", "%25", "%", "\\", "/").Replace(path)
		}
		path, _, _ = strings.Cut(strings.ReplaceAll(path, "#", "?"), "?")
		depth := 0
		for _, segment := range strings.Split(strings.TrimPrefix(path, "/v1/"), "/") {
			segment, _, _ = strings.Cut(segment, ";")
			if segment == ".." {
				depth--
			} else if segment != "" && segment != "." {
				depth++
			}
			if depth < 0 {
				t.Fatalf("%q leads out", path)
			}
		}
	})
	if passed == 0 {
		t.Error("nothing passed")
	}
}

func TestKeyState(t *testing.T) {
	now := time.Now()
	key := apikey.Key{Hash: apikey.Hash{1}, PreviousHash: apikey.Hash{2}, PreviousUntil: now, ExpiresAt: now}
	other := apikey.Hash{3}
	if !key.Answers(&key.Hash, now) || !key.Answers(&key.PreviousHash, now.Add(-1)) || key.Answers(&key.PreviousHash, now) || key.Answers(&other, now.Add(-1)) {
		t.Error("a hash answers when it should not, or the other way round")
	}
	if zero := (apikey.Hash{}); (&apikey.Key{Hash: apikey.Hash{1}}).Answers(&zero, now) {
		t.Error("no previous secret answers")
	}
	if key.Expired(now.Add(-1)) || !key.Expired(now) || (&apikey.Key{}).Expired(now) {
		t.Error("expiry")
	}
	if d := apikey.Decide(&key, &apikey.Request{Now: now}); d.Reason != apikey.ReasonExpired {
		t.Errorf("got %v", d.Reason)
	}
	if d := apikey.Decide(&apikey.Key{Disabled: true, ExpiresAt: now}, &apikey.Request{Now: now}); d.Reason != apikey.ReasonDisabled {
		t.Errorf("got %v", d.Reason)
	}
}

func TestKeyValidateMore(t *testing.T) {
	entries := func(n int, value string) (m apikey.Metadata) {
		for i := range n {
			m = append(m, apikey.MetadataEntry{Name: "n" + string(rune('a'+i)), Value: value})
		}
		return m
	}
	for _, c := range []struct {
		name, field string
		key         apikey.Key
	}{
		{"too many scopes", "scopes", apikey.Key{Scopes: make([]apikey.Scope, 101)}},
		{"zero scope", "scopes[0]", apikey.Key{Scopes: make([]apikey.Scope, 1)}},
		{"long notes", "notes", apikey.Key{Notes: strings.Repeat("ä", 1001)}},
		{"bell in notes", "notes", apikey.Key{Notes: "a\ab"}},
		{"carriage return in notes", "notes", apikey.Key{Notes: "a\r\nb"}},
		{"notes not UTF-8", "notes", apikey.Key{Notes: "\xff"}},
		{"too much metadata", "metadata", apikey.Key{Metadata: entries(21, "v")}},
		{"too large metadata", "metadata", apikey.Key{Metadata: entries(15, strings.Repeat("v", 190))}},
		{"metadata name", "metadata", apikey.Key{Metadata: apikey.Metadata{{Name: "Plan", Value: "pro"}}}},
		{"metadata name with CR", "metadata", apikey.Key{Metadata: apikey.Metadata{{Name: "a\r", Value: "pro"}}}},
		{"metadata twice", "metadata", apikey.Key{Metadata: apikey.Metadata{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}}},
		{"long metadata value", "metadata.na", apikey.Key{Metadata: entries(1, strings.Repeat("v", 201))}},
		{"CR LF in metadata", "metadata.na", apikey.Key{Metadata: entries(1, "a\r\nx-api-key-id: 7")}},
		{"metadata not UTF-8", "metadata.na", apikey.Key{Metadata: entries(1, "\xff")}},
	} {
		c.key.Name = "n"
		var field *apikey.FieldError
		if err := c.key.Validate(); !errors.As(err, &field) || field.Field != c.field {
			t.Errorf("%s: got %v, want an error for %s", c.name, err, c.field)
		}
	}
	metadata, err := apikey.NewMetadata(map[string]string{"team": "blue", "plan": "pro"})
	if err != nil || len(metadata) != 2 || metadata[0].Name != "plan" || metadata.Map()["team"] != "blue" {
		t.Errorf("got %v, %v", metadata, err)
	}
	good := apikey.Key{Name: "n", Notes: "two\nlines", Metadata: metadata, Scopes: scopesOf(t, "/v1/")}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
