package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

const (
	onePepper   = "a5PqH0kFqf3l6mS2yB8tW9xZ1cV4nM7d"
	otherPepper = "Zr0Tn5uQ2wEe8yU1iO4pA7sD3fG6hJ9k"
)

func TestCheckHashes(t *testing.T) {
	hasherOf := func(text string) (hasher apikey.Hasher) {
		if text == "" {
			return hasher
		}
		hasher, err := apikey.ParsePeppers([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return hasher
	}
	secretOf := func(letter string) apikey.Secret {
		secret, err := apikey.NewSecret(strings.NewReader(strings.Repeat(letter, 32)))
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	for _, c := range []struct {
		name    string
		made    []string // how each key was hashed: the text of a pepper file
		rotated string   // how the first one was before a rotation, if it was
		ended   bool     // the grace after the rotation is over
		ways    string
		want    []int
		most    int
		refused string
	}{
		{name: "no keys", ways: onePepper, want: []int{0}},
		{name: "plain", made: []string{"", ""}, want: []int{2}},
		{name: "one pepper", made: []string{onePepper, onePepper}, ways: onePepper, want: []int{2}},
		{name: "forgotten", made: []string{"", onePepper, onePepper}, refused: "2 made with a pepper that is not given, the first of them key 2"},
		{name: "new over plain keys", made: []string{""}, ways: onePepper, refused: "1 made without a pepper, the first of them key 1"},
		{name: "no more than some are read", made: []string{"", "", ""}, most: 2, want: []int{2}},
		{name: "some of them are enough", made: []string{onePepper, onePepper}, most: 1, refused: "1 made with a pepper that is not given"},
		{name: "new with none", made: []string{"", onePepper}, ways: onePepper + "\nnone", want: []int{1, 1}},
		{name: "another", made: []string{onePepper, ""}, ways: otherPepper, refused: "1 made with a pepper that is not given and 1 made without a pepper, the first of them key 1"},
		{name: "replaced", made: []string{onePepper, otherPepper}, ways: otherPepper + "\n" + onePepper, want: []int{1, 1}},
		{name: "before a rotation", made: []string{otherPepper}, rotated: onePepper, ways: otherPepper, refused: "1 made with a pepper that is not given, the first of them key 1"},
		{name: "before a rotation that is over", made: []string{otherPepper}, rotated: onePepper, ended: true, ways: otherPepper, want: []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys := newSlowKeys()
			for i, text := range c.made {
				key := &apikey.Key{Hash: hasherOf(text).Hash(secretOf(string(rune('a' + i)))), Name: "key", Owner: 1}
				if c.rotated != "" && i == 0 {
					key.PreviousHash, key.PreviousUntil = hasherOf(c.rotated).Hash(secretOf("z")), noon.Add(time.Hour)
					if c.ended {
						key.PreviousUntil = noon
					}
				}
				if _, err := keys.CreateKey(t.Context(), key, by); err != nil {
					t.Fatal(err)
				}
			}
			if len(c.made) > 1 { // keys come in no order from this store
				c.refused, _, _ = strings.Cut(c.refused, ", the first")
			}
			made, err := store.CheckHashes(t.Context(), keys, hasherOf(c.ways), noon, c.most)
			switch {
			case c.refused != "" && (!errors.Is(err, store.ErrPepper) || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("%v; expected %q", err, c.refused)
			case c.refused == "" && (err != nil || !slices.Equal(made, c.want)):
				t.Errorf("%v, %v; expected %v", made, err, c.want)
			}
		})
	}
}
