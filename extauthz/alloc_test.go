package extauthz

import (
	"testing"

	"github.com/tokenkithq/authz/apikey"
)

// An allowed request is decided without allocating: hash, key, origin, limit
// and block.
func TestAuthorizeAllocatesNothing(t *testing.T) {
	pattern, err := apikey.ParseOriginPattern("https://*.example.io")
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, Options{}, AuthorizerOptions{})
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 1, Name: "n", AllowedOrigins: []apikey.OriginPattern{pattern}, RateLimitPerHour: 1_000_000})
	check := checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)}, pair{"origin", "https://app.example.io"})
	wire := wireOf(t, check)
	var reader wireReader
	var v view
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if err := reader.read(&v, wire, b.shape, &b.parser.wanted); err != nil {
			panic(err)
		}
		request, _ := b.parser.parse(&v)
		outcome, err := b.authorizer.Authorize(ctx, &request.Request)
		if err != nil || !outcome.Allowed() {
			panic("denied")
		}
	}); n != 1 { // what was read from the wire, as one text
		t.Errorf("%v allocations a decision, want 1", n)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	bench := newBench(b, Options{}, AuthorizerOptions{})
	bench.keys.add(b, secretText(b, 1), apikey.Key{ID: 1, Name: "n", RateLimitPerHour: 1_000_000_000})
	request := apikey.Request{Credential: apikey.OneCredential(secretText(b, 1)), Address: parseAddress("192.0.2.1")}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bench.authorizer.Authorize(ctx, &request); err != nil {
			b.Fatal(err)
		}
	}
}
