package extauthz

import (
	"errors"
	"testing"

	"github.com/tokenkithq/authz/apikey"
)

const (
	newPepper = "a5PqH0kFqf3l6mS2yB8tW9xZ1cV4nM7d"
	oldPepper = "Zr0Tn5uQ2wEe8yU1iO4pA7sD3fG6hJ9k"
)

func hasherOf(t testing.TB, text string) apikey.Hasher {
	t.Helper()
	hasher, err := apikey.ParsePeppers([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return hasher
}

func secretOf(t testing.TB, text string) apikey.Secret {
	t.Helper()
	secret, err := apikey.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// Keys are found by the pepper they were made with, as long as it is given, and
// by no other.
func TestCheckWithPeppers(t *testing.T) {
	text := secretText(t, 1)
	secret := secretOf(t, text)
	check := checkOf(false, "192.0.2.1", "/", pair{"api-key", text})
	for _, c := range []struct {
		name, peppers string
		hash          apikey.Hash
		allowed       bool
	}{
		{"first", newPepper + "\n" + oldPepper, hasherOf(t, newPepper).Hash(secret), true},
		{"second", newPepper + "\n" + oldPepper, hasherOf(t, oldPepper).Hash(secret), true},
		{"none", newPepper + "\nnone", secret.Hash(), true},
		{"not given", newPepper, hasherOf(t, oldPepper).Hash(secret), false},
		{"none is not given", newPepper, secret.Hash(), false},
		{"none is given only", "none", hasherOf(t, newPepper).Hash(secret), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Options{}, AuthorizerOptions{Hasher: hasherOf(t, c.peppers)})
			b.keys.keys[c.hash] = &apikey.Key{ID: 1, Hash: c.hash, Name: "n"}
			response := b.check(t, check)
			if c.allowed != (response.GetOkResponse() != nil) {
				t.Fatalf("got %v", response)
			}
			if !c.allowed {
				wantDenied(t, response, 401, "invalid_key", "unknown_key")
			}
		})
	}
}

// A store that fails is not taken for one without the key.
func TestCheckWithPeppersFailsClosed(t *testing.T) {
	b := newBench(t, Options{}, AuthorizerOptions{Hasher: hasherOf(t, newPepper+"\n"+oldPepper)})
	b.keys.err = errors.New("the disk is gone")
	request := apikey.Request{Credential: apikey.OneCredential(secretText(t, 1))}
	if outcome, err := b.authorizer.Authorize(t.Context(), &request); err == nil || outcome.Allowed() {
		t.Errorf("got %+v, %v", outcome, err)
	}
}

func TestPepperAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools forget on purpose under the race detector")
	}
	text := secretText(t, 1)
	b := newBench(t, Options{}, AuthorizerOptions{Hasher: hasherOf(t, newPepper+"\n"+oldPepper)})
	hash := hasherOf(t, newPepper).Hash(secretOf(t, text))
	b.keys.keys[hash] = &apikey.Key{ID: 1, Hash: hash, Name: "n"}
	request, ctx := apikey.Request{Credential: apikey.OneCredential(text)}, t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if outcome, err := b.authorizer.Authorize(ctx, &request); err != nil || !outcome.Allowed() {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations a decision", n)
	}
}
