package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// canaryPart is how many characters of a canary are enough to find it.
const canaryPart = 12

// canaries are secrets that must be nowhere, and how they might be written
// there.
type canaries struct {
	marks []canaryMark
	// starts tells which bytes begin a mark of 8 bytes or more.
	starts map[[8]byte][]int
}

type canaryMark struct {
	name, form string
	text       []byte
}

func newCanaries() *canaries { return &canaries{starts: map[[8]byte][]int{}} }

func (c *canaries) mark(name, form string, text []byte) {
	if len(text) < 8 {
		panic("a mark that is too short to search for")
	}
	start := [8]byte(text[:8])
	for _, i := range c.starts[start] {
		if bytes.Equal(c.marks[i].text, text) {
			return
		}
	}
	c.starts[start] = append(c.starts[start], len(c.marks))
	c.marks = append(c.marks, canaryMark{name, form, text})
}

// add looks for any part of secret of [canaryPart] characters.
func (c *canaries) add(name, secret string) {
	for i := range len(secret) - canaryPart + 1 {
		part := secret[i : i+canaryPart]
		c.mark(name, "as it is", []byte(part))
		c.mark(name, "in hexadecimal digits", []byte(hex.EncodeToString([]byte(part))))
		c.mark(name, "in upper-case hexadecimal digits", []byte(strings.ToUpper(hex.EncodeToString([]byte(part)))))
		c.mark(name, "escaped for a URL", []byte(url.QueryEscape(part)))
		var escaped, percent []byte
		for _, b := range []byte(part) {
			escaped, percent = fmt.Appendf(escaped, `\u%04x`, b), fmt.Appendf(percent, "%%%02X", b)
		}
		c.mark(name, "in escapes of JSON", escaped)
		c.mark(name, "in escapes of URLs", percent)
		if quoted, err := json.Marshal(part); err == nil {
			c.mark(name, "quoted for JSON", quoted[1:len(quoted)-1])
		}
		var little, big []byte
		for _, unit := range utf16.Encode([]rune(part)) {
			little, big = append(little, byte(unit), byte(unit>>8)), append(big, byte(unit>>8), byte(unit))
		}
		c.mark(name, "in UTF-16", little)
		c.mark(name, "in UTF-16, the other way round", big)
		reversed := []byte(part)
		slices.Reverse(reversed)
		c.mark(name, "reversed", reversed)
		// Base64 of a text around it depends on where in that text it begins; a
		// quantum at its end depends on what follows.
		for shift := range 3 {
			for encoding, base := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
				digits := base.EncodeToString([]byte(strings.Repeat("\x00", shift) + part))
				first, last := (8*shift+5)/6, 8*(shift+len(part))/6
				c.mark(name, encoding, []byte(digits[first:last]))
			}
		}
	}
}

// find returns which canaries are in text, and how.
func (c *canaries) find(text []byte) []string {
	found := map[string]int{}
	for i := range len(text) - 7 {
		for _, m := range c.starts[[8]byte(text[i:i+8])] {
			if bytes.HasPrefix(text[i:], c.marks[m].text) {
				found[c.marks[m].name+" "+c.marks[m].form] = i
			}
		}
	}
	var all []string
	for what, at := range found {
		around := text[max(0, at-80):min(len(text), at+60)]
		all = append(all, fmt.Sprintf("%s, at byte %d: %q", what, at, around))
	}
	slices.Sort(all)
	return all
}

// search reports canaries in text.
func (c *canaries) search(t *testing.T, where string, text []byte) {
	t.Helper()
	for _, what := range c.find(text) {
		t.Errorf("%s holds the %s", where, what)
	}
}

// searchFiles reports canaries in all files below a folder and in their names,
// and returns how many files there are.
func (c *canaries) searchFiles(t *testing.T, folder string) (files int) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files++
		c.search(t, "the name of a file", []byte(path))
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c.search(t, path, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// The search itself finds a secret in each form, wherever it stands.
func TestCanariesAreFound(t *testing.T) {
	const secret = "tk_0aB1cD2eF3gH4iJ5kL6mN7oP8/+<>&ü"
	c := newCanaries()
	c.add("secret", secret)
	reversed := []byte(secret)
	slices.Reverse(reversed)
	var utf16le []byte
	for _, unit := range utf16.Encode([]rune(secret)) {
		utf16le = append(utf16le, byte(unit), byte(unit>>8))
	}
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string][]byte{
		"raw": []byte(secret), "part": []byte(secret[5:17]), "hex": []byte(hex.EncodeToString([]byte(secret))), "HEX": fmt.Appendf(nil, "%X", secret),
		"url": []byte(url.QueryEscape(secret)), "json": quoted, "utf-16": utf16le, "reversed": reversed,
	}
	for shift := range 7 {
		forms[fmt.Sprintf("base64 at %d", shift)] = []byte(base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret + "yz")))
		forms[fmt.Sprintf("base64url at %d", shift)] = []byte(base64.URLEncoding.EncodeToString([]byte(strings.Repeat("\xff", shift) + secret + "y")))
	}
	for name, form := range forms {
		for pad := range 9 {
			if text := slices.Concat(bytes.Repeat([]byte("#"), pad), form, []byte("#")); len(c.find(text)) == 0 {
				t.Errorf("%s after %d bytes is not found", name, pad)
			}
		}
	}
	for _, text := range []string{"", "short", secret[:11], strings.Repeat("tk_", 100), "tk_…" + secret[len(secret)-8:]} {
		if found := c.find([]byte(text)); len(found) > 0 {
			t.Errorf("found in %q: %q", text, found)
		}
	}
}
