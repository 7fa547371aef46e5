package extauthz

import (
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
)

// A header that many servers read as one of the identity headers is removed
// where Envoy is known to let it through, whichever hyphens it lacks.
func TestAttackUnderscoredIdentity(t *testing.T) {
	b := newBench(t, Options{RemoveUnderscored: true}, AuthorizerOptions{})
	b.keys.add(t, secretText(t, 1), apikey.Key{ID: 7, Name: "n"})
	ok := b.check(t, checkOf(false, "192.0.2.1", "/", pair{"api-key", secretText(t, 1)})).GetOkResponse()
	removed := ok.GetHeadersToRemove()
	for _, name := range []string{"x_api_key_id", "x-api-key_id", "x_api-key-name", "x-api_key-owner", "x_api_key_owner", "x_api_key_metadata"} {
		if !slices.Contains(removed, name) {
			t.Errorf("%s is not removed", name)
		}
	}
	folded := map[string]int{}
	for _, name := range removed {
		if strings.Contains(name, "_") {
			folded[strings.ReplaceAll(name, "_", "-")]++
		}
	}
	for _, name := range []string{"x-api-key-id", "x-api-key-name", "x-api-key-owner", "x-api-key-metadata"} {
		if folded[name] != 7 { // 2·2·2 but for the name itself
			t.Errorf("of %s %d names are removed", name, folded[name])
		}
	}
	// None that is set is removed.
	for _, h := range ok.GetHeaders() {
		if slices.Contains(removed, h.GetHeader().GetKey()) {
			t.Errorf("%s is both set and removed", h.GetHeader().GetKey())
		}
	}
	ambiguous := IdentityHeaders{KeyID: "x-id", KeyName: "x_id", Owner: "x-owner", Metadata: "x-metadata"}
	if got := underscored(ambiguous.names()); slices.Contains(got, "x_id") || slices.Contains(got, "x-id") {
		t.Errorf("a name that is set is among %v", got)
	}
	many := Options{RemoveUnderscored: true, Identity: IdentityHeaders{KeyID: "x-a-b-c-d-e-f"}}
	if err := many.Validate(); err == nil || !strings.Contains(err.Error(), `at most 5 hyphens in "x-a-b-c-d-e-f"`) {
		t.Errorf("a name with many hyphens: %v", err)
	}
}
