package apikey_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
)

const (
	pepperA = "a5PqH0kFqf3l6mS2yB8tW9xZ1cV4nM7d"
	pepperB = "Zr0Tn5uQ2wEe8yU1iO4pA7sD3fG6hJ9kLmNbVcXz"
)

func hasherOf(t testing.TB, lines ...string) apikey.Hasher {
	t.Helper()
	hasher, err := apikey.ParsePeppers([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return hasher
}

func TestParsePeppers(t *testing.T) {
	for _, c := range []struct {
		name, text string
		ways       int
		refused    string // part of the error; empty: none
	}{
		{name: "one", text: pepperA, ways: 1},
		{name: "as an editor leaves it", text: pepperA + "\n", ways: 1},
		{name: "lines of another system", text: pepperA + "\r\n" + pepperB + "\r\n", ways: 2},
		{name: "and those before", text: pepperB + "\n" + pepperA + "\nnone\n", ways: 3},
		{name: "none first", text: "none\n" + pepperA, ways: 2},
		{name: "nothing", text: "", refused: "line 1: expected a pepper of at least 32 bytes"},
		{name: "short", text: pepperA[1:], refused: "line 1: expected a pepper of at least 32 bytes, or none, got 31 bytes"},
		{name: "short second", text: pepperA + "\n" + pepperA[2:], refused: "line 2: expected a pepper of at least 32 bytes"},
		{name: "empty line between", text: pepperA + "\n\n" + pepperB, refused: "line 2"},
		{name: "None", text: pepperA + "\nNone", refused: "line 2"},
		{name: "twice", text: pepperA + "\n" + pepperB + "\n" + pepperA, refused: "line 3: expected another line than line 1"},
		{name: "none twice", text: "none\nnone", refused: "line 2: expected another line than line 1"},
		{name: "space", text: pepperA + " ", refused: "line 1: expected a pepper without spaces"},
		{name: "tab", text: "\t" + pepperA, refused: "line 1: expected a pepper without spaces"},
		{name: "zero byte", text: pepperA + "\x00", refused: "line 1: expected a pepper without spaces and control characters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			hasher, err := apikey.ParsePeppers([]byte(c.text))
			switch {
			case c.refused == "" && (err != nil || hasher.Ways() != c.ways):
				t.Errorf("%d ways, %v; expected %d", hasher.Ways(), err, c.ways)
			case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("%v; expected an error with %q", err, c.refused)
			case err != nil && strings.Contains(err.Error(), pepperA[2:10]):
				t.Errorf("the error repeats the pepper: %v", err)
			}
		})
	}
}

// A peppered hash is the beginning of the HMAC that the standard library makes,
// and tells the pepper that made it from others and from none.
func TestHasher(t *testing.T) {
	a, b, both, plain := hasherOf(t, pepperA), hasherOf(t, pepperB), hasherOf(t, pepperB, pepperA, "none"), apikey.Hasher{}
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "raw")
		secret, err := apikey.NewSecret(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, []byte(pepperA))
		mac.Write([]byte(secret.Reveal()))
		ofA, ofB := a.Hash(secret), b.Hash(secret)
		if !bytes.Equal(ofA[:22], mac.Sum(nil)[:22]) {
			t.Fatalf("%s is not the HMAC", ofA)
		}
		if plain.Hash(secret) != secret.Hash() || both.HashBy(2, secret) != secret.Hash() || both.Hash(secret) != ofB || both.HashBy(1, secret) != ofA {
			t.Fatal("the ways are not in the order of the lines")
		}
		for _, c := range []struct {
			name   string
			hasher apikey.Hasher
			hash   apikey.Hash
			way    int
			known  bool
		}{
			{"own", a, ofA, 0, true}, {"another's", a, ofB, 0, false}, {"none's with a pepper", a, secret.Hash(), 0, false},
			{"none's", plain, secret.Hash(), 0, true}, {"a pepper's without one", plain, ofA, 0, false},
			{"first", both, ofB, 0, true}, {"second", both, ofA, 1, true}, {"third", both, secret.Hash(), 2, true},
		} {
			if way, known := c.hasher.WayOf(&c.hash); way != c.way || known != c.known {
				t.Errorf("%s: way %d, %v; expected %d, %v", c.name, way, known, c.way, c.known)
			}
		}
	})
}

func TestHasherIsRedacted(t *testing.T) {
	hasher := hasherOf(t, pepperA)
	_ = hasher.Hash(newSecret(t))
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb, hasher)
		fmt.Fprintf(&out, verb, &hasher)
		fmt.Fprintf(&out, verb, struct{ H apikey.Hasher }{hasher})
	}
	if err := json.NewEncoder(&out).Encode(hasher); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{pepperA[:8], fmt.Sprintf("%x", pepperA[:8])} {
		if strings.Contains(out.String(), part) {
			t.Fatal("a pepper was printed")
		}
	}
	if strings.Count(out.String(), "[redacted peppers]") != 19 {
		t.Errorf("printed %s", out.String())
	}
}

func BenchmarkHasher(b *testing.B) {
	secret := newSecret(b)
	for _, c := range []struct {
		name   string
		hasher apikey.Hasher
	}{{"plain", apikey.Hasher{}}, {"pepper", hasherOf(b, pepperA)}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = c.hasher.Hash(secret)
			}
		})
	}
}
