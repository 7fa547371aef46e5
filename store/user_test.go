package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"pgregory.net/rapid"
)

func TestCanonicalLogin(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"name", "ada", "ada"},
		{"capitals", "Ada.Lovelace_2+x-Y", "ada.lovelace_2+x-y"},
		{"digit first", "7of9", "7of9"},
		{"one letter", "A", "a"},
		{"longest", strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{"address", "You@Example.COM", "you@example.com"},
		{"address with a plus", "ada+keys@example.io", "ada+keys@example.io"},
		{"address on one label", "root@localhost", "root@localhost"},
		{"address on an IDN", "ada@Bücher.example", "ada@xn--bcher-kva.example"},
		{"address of punctuation", "o'hara!#$%&*/=?^_`{|}~@example.io", "o'hara!#$%&*/=?^_`{|}~@example.io"},
		{"longest local part", strings.Repeat("a", 64) + "@example.io", strings.Repeat("a", 64) + "@example.io"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := store.CanonicalLogin(c.text)
			if err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
	label := strings.Repeat("a", 63)
	for name, text := range map[string]string{
		"empty": "", "space": " ada", "space after": "ada ", "inner space": "a da", "too long": strings.Repeat("a", 65),
		"dot first": ".ada", "hyphen first": "-ada", "slash": "a/b", "control": "a\x00", "newline": "ada\n", "colon": "a:b",
		"Cyrillic": "аda", "full width": "ａda", "Kelvin sign": "\u212aim", "dotless i": "ı", "zero width": "a\u200bda", "not UTF-8": "a\xff",
		"no local part": "@example.io", "no domain": "ada@", "two at signs": "a@b@example.io", "dot first in local": ".a@example.io",
		"dots in local": "a..b@example.io", "dot last in local": "a.@example.io", "quoted": `"a b"@example.io`,
		"local not ASCII": "аda@example.io", "local too long": strings.Repeat("a", 65) + "@example.io",
		"domain dot first": "a@.example.io", "domain dot last": "a@example.io.", "domain with a space": "a@exa mple.io", "IP literal": "a@[192.0.2.1]",
		"domain with an underscore": "a@b_c.example", "domain hyphen first": "a@-b.example", "domain with a port": "a@b.example:25", "comment": "a@b.example (x)",
		"label too long": "a@" + label + "a.example", "too long in all": "a@" + strings.Join([]string{label, label, label, label}, "."),
		"domain not UTF-8": "a@\xff.example", "only at": "@",
	} {
		if got, err := store.CanonicalLogin(text); err == nil {
			t.Errorf("%s: %q was read as %q", name, text, got)
		} else if len(text) > 3 && strings.Contains(err.Error(), text) {
			t.Errorf("%s: the error repeats the text", name)
		}
	}
	if _, err := store.CanonicalEmail("ada"); err == nil {
		t.Error("a name was read as an address")
	}
}

// What is canonical is ASCII, small, and its own canonical form, and case
// makes no difference.
func TestCanonicalForms(t *testing.T) {
	texts := rapid.OneOf(rapid.StringMatching(`[A-Za-z0-9._@+-]{1,20}`), rapid.StringMatching(`[A-Za-z.]{1,9}@[a-zü.A-Z-]{1,9}`), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		text := texts.Draw(t, "text")
		canonical, err := store.CanonicalLogin(text)
		if err != nil {
			return
		}
		for _, c := range []byte(canonical) {
			if c <= ' ' || c > '~' || 'A' <= c && c <= 'Z' {
				t.Fatalf("%q became %q", text, canonical)
			}
		}
		if again, err := store.CanonicalLogin(canonical); err != nil || again != canonical {
			t.Fatalf("%q became %q, %v", canonical, again, err)
		}
		if upper, err := store.CanonicalLogin(strings.ToUpper(canonical)); err != nil || upper != canonical {
			t.Fatalf("%q in capitals became %q, %v", canonical, upper, err)
		}
	})
}

func TestUserValidateNamesTheField(t *testing.T) {
	for _, c := range []struct {
		user  store.User
		field string
	}{
		{store.User{Name: "ada"}, ""},
		{store.User{Name: "ada", Email: "ada@example.io"}, ""},
		{store.User{Name: "Ada"}, "username"},
		{store.User{}, "username"},
		{store.User{Name: "ada", Email: "ada"}, "email"},
		{store.User{Name: "ada", Email: "ADA@example.io"}, "email"},
	} {
		err := c.user.Validate()
		var field *apikey.FieldError
		if errors.As(err, &field); field == nil && c.field != "" || field != nil && field.Field != c.field {
			t.Errorf("%+v: got %v, want an error of field %q", c.user, err, c.field)
		}
	}
}
