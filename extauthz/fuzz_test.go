package extauthz

import (
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/tokenkithq/authz/apikey"
)

// Whatever bytes arrive as a Check, the answer is valid for Envoy, and allows
// only what carries the one key that exists.
func FuzzCheck(f *testing.F) {
	good := secretText(f, 1)
	for _, check := range []*authv3.CheckRequest{
		nil,
		checkOf(false, "192.0.2.1", "/?key="+good+"&a=b", pair{"api-key", good}, pair{"origin", "https://a.example"}),
		checkOf(true, "192.0.2.1", "/", pair{"api-key", good}, pair{"x-forwarded-for", "192.0.2.9, 10.0.0.1"}),
		checkOf(true, "::ffff:192.0.2.1", "/", pair{"authorization", "Bearer " + good}, pair{"x-origin", "null"}),
	} {
		wire, err := proto.Marshal(check)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	b := newBench(f, Options{
		Sources: CredentialSources{Headers: []string{"api-key"}, QueryParameter: "key", Bearer: true},
		Address: ClientAddress{Mode: AddressForwarded, TrustedHops: 1},
	}, AuthorizerOptions{Uncounted: []apikey.Reason{apikey.ReasonMalformedKey, apikey.ReasonUnknownKey}})
	b.keys.add(f, good, apikey.Key{ID: 1, Name: "n", OwnerName: "o"})
	f.Fuzz(func(t *testing.T, wire []byte) {
		check := &authv3.CheckRequest{}
		if err := proto.Unmarshal(wire, check); err != nil {
			return
		}
		b.logs.Reset()
		response := b.check(t, check)
		if _, err := proto.Marshal(response); err != nil {
			t.Fatalf("the answer cannot be sent: %v", err)
		}
		allowed := response.GetStatus().GetCode() == int32(codes.OK)
		if allowed != (response.GetOkResponse() != nil) || allowed == (response.GetDeniedResponse() != nil) {
			t.Fatal("status and answer contradict each other")
		}
		if allowed && !strings.Contains(string(wire), good) {
			t.Fatal("allowed without the key")
		}
		if strings.Contains(b.logs.String(), good) {
			t.Fatal("the key was logged")
		}
	})
}
