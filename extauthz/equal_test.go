package extauthz

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tokenkithq/authz/apikey"
)

// What a client is answered does not tell a key that never was from one that
// was deleted, from one that was replaced, or from what is no key: the answers
// are the same byte for byte, but for the metadata that Envoy keeps to itself.
func TestRefusalsAreEqual(t *testing.T) {
	unknown, deleted, replaced, hidden := secretText(t, 1), secretText(t, 2), secretText(t, 3), secretText(t, 4)
	for _, c := range []struct {
		name    string
		options AuthorizerOptions
		headers []pair // beside the key
	}{
		{"plain", AuthorizerOptions{}, nil},
		{"strict", AuthorizerOptions{Strict: true}, nil},
		{"peppers", AuthorizerOptions{Hasher: hasherOf(t, newPepper+"\n"+oldPepper+"\nnone")}, nil},
		{"from a page", AuthorizerOptions{}, []pair{{"origin", "https://app.example.io"}}},
		{"by gRPC", AuthorizerOptions{}, []pair{{"content-type", "application/grpc"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.Uncounted = CountedReasons() // else the address is blocked soon
			b := newBench(t, Options{Sources: CredentialSources{Headers: []string{"api-key"}}}, c.options)
			b.keys.add(t, deleted, apikey.Key{ID: 1, Name: "n"})
			if r := b.check(t, checkOf(false, "192.0.2.1", "/", append(c.headers, pair{"api-key", deleted})...)); r.GetOkResponse() == nil {
				t.Fatalf("denied before it was deleted: %v", r)
			}
			clear(b.keys.keys)
			before := secretOf(t, replaced).Hash()
			b.keys.keys[before] = &apikey.Key{ID: 2, Name: "n", Hash: secretOf(t, hidden).Hash(), PreviousHash: before, PreviousUntil: b.now.Add(-time.Second)}

			var want []byte
			for _, text := range []string{unknown, deleted, replaced, "nonsense", unknown[:len(unknown)-1], unknown[:10] + "\x80", unknown + "," + unknown} {
				for _, raw := range []bool{false, true} {
					if !raw && text == unknown[:10]+"\x80" {
						continue // such a header comes in the raw form only
					}
					denied := b.check(t, checkOf(raw, "192.0.2.1", "/", append(c.headers, pair{"api-key", text})...)).GetDeniedResponse()
					if denied == nil {
						t.Fatalf("%q was allowed", text)
					}
					got, err := proto.MarshalOptions{Deterministic: true}.Marshal(denied)
					if err != nil {
						t.Fatal(err)
					}
					if want == nil {
						want = got
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%q, raw %v, is answered with %q, an unknown key with %q", text, raw, got, want)
					}
				}
			}
		})
	}
}
