package boltfiletest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

const damagePage = 4096

// DamageOptions are all needed.
type DamageOptions struct {
	// Versions are the bytes of one file at different times, oldest first;
	// the last one is whole and is what gets damaged. Each should be at least
	// three transactions older than the next.
	Versions [][]byte
	// Check opens the file at path and returns nil where all that it holds is
	// what the last version holds.
	Check func(path string) error
	// Refusals are the errors by which Check says that a file was refused.
	Refusals []error
	// Rounds is how often the file is damaged where TOKENKIT_ROUNDS does not
	// say.
	Rounds int
}

// Damage damages a file again and again, by flipped bits, garbage, pages that
// are zeroed, swapped, copied or old, and ends that are cut off or added. Each
// time the file must be refused or hold exactly what it held before.
func Damage(t *testing.T, o DamageOptions) {
	t.Helper()
	versions := make([][]byte, len(o.Versions))
	for i, b := range o.Versions {
		versions[i] = trimmed(b)
	}
	good := versions[len(versions)-1]
	path := filepath.Join(scratch(t), "file")
	if err := errors.Join(os.WriteFile(path, good, 0o600), o.Check(path)); err != nil {
		t.Fatalf("before any damage: %v", err)
	}
	n, start := rounds(t, o.Rounds), seed(t)
	refused, unharmed, wrong := 0, 0, 0
	for round := range n {
		random := source(start, round)
		kind := kinds[random.IntN(len(kinds))]
		damaged := kind.do(slices.Clone(good), versions, random)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		err := guarded(t, round, kind.name, func() error { return o.Check(path) })
		switch {
		case err == nil:
			unharmed++
		case slices.ContainsFunc(o.Refusals, func(refusal error) bool { return errors.Is(err, refusal) }):
			refused++
		default:
			wrong++
			if wrong <= 10 {
				t.Errorf("round %d, %s: %v", round, kind.name, err)
			}
		}
	}
	figures(t, "damaged=%d refused=%d unharmed=%d wrong=%d panics=0 hangs=0", n, refused, unharmed, wrong)
}

// trimmed returns b without the pages of zeros at its end, which were never
// used: damage there would prove nothing.
func trimmed(b []byte) []byte {
	end := len(bytes.TrimRight(b, "\x00"))
	return b[:min((end+damagePage-1)/damagePage*damagePage, len(b))]
}

// guarded runs a check that may hang or panic, either of which ends the run.
func guarded(t *testing.T, round int, kind string, check func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if reason := recover(); reason != nil {
				done <- fmt.Errorf("panic: %v\n%s", reason, debug.Stack())
			}
		}()
		done <- check()
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("round %d, %s: the check hangs", round, kind)
		return nil
	}
}

type damageKind struct {
	name string
	do   func(b []byte, versions [][]byte, random *rand.Rand) []byte
}

// kinds are tried equally often, so those of one flipped bit stand more than
// once.
var kinds = []damageKind{
	{"a bit anywhere", flip},
	{"a bit anywhere", flip},
	{"a bit in the head of a page", flipHead},
	{"a bit in the head of a page", flipHead},
	{"a bit in a meta page", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		flipAt(b, random.IntN(2)*damagePage+random.IntN(80), random)
		return b
	}},
	{"two bits", func(b []byte, v [][]byte, random *rand.Rand) []byte { return flip(flipHead(b, v, random), v, random) }},
	{"a byte in the head of a page", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		b[pageAt(b, random)+random.IntN(64)] = byte(random.IntN(256))
		return b
	}},
	{"garbage", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		at := random.IntN(len(b))
		for i := at; i < min(at+1+random.IntN(600), len(b)); i++ {
			b[i] = byte(random.IntN(256))
		}
		return b
	}},
	{"a zeroed sector", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		at := random.IntN(len(b)/512) * 512
		clear(b[at : at+512])
		return b
	}},
	{"a zeroed page", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		at := pageAt(b, random)
		clear(b[at : at+damagePage])
		return b
	}},
	{"two pages swapped", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		x, y := pageAt(b, random), pageAt(b, random)
		kept := slices.Clone(b[x : x+damagePage])
		copy(b[x:x+damagePage], b[y:y+damagePage])
		copy(b[y:y+damagePage], kept)
		return b
	}},
	{"a page over another", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		x, y := pageAt(b, random), pageAt(b, random)
		copy(b[x:x+damagePage], b[y:y+damagePage])
		return b
	}},
	{"an old page", func(b []byte, versions [][]byte, random *rand.Rand) []byte {
		return age(b, versions, 1, random)
	}},
	{"some old pages", func(b []byte, versions [][]byte, random *rand.Rand) []byte {
		return age(b, versions, 2+random.IntN(6), random)
	}},
	{"old but for its meta pages", func(b []byte, versions [][]byte, random *rand.Rand) []byte {
		old := oldVersion(versions, random)
		copy(b[2*damagePage:], old[min(2*damagePage, len(old)):])
		return b
	}},
	{"cut off", func(b []byte, _ [][]byte, random *rand.Rand) []byte { return b[:random.IntN(len(b))] }},
	{"cut off at a page", func(b []byte, _ [][]byte, random *rand.Rand) []byte { return b[:pageAt(b, random)] }},
	{"garbage added", func(b []byte, _ [][]byte, random *rand.Rand) []byte {
		for range 1 + random.IntN(3*damagePage) {
			b = append(b, byte(random.IntN(256)))
		}
		return b
	}},
}

func flip(b []byte, _ [][]byte, random *rand.Rand) []byte {
	flipAt(b, random.IntN(len(b)), random)
	return b
}

func flipHead(b []byte, _ [][]byte, random *rand.Rand) []byte {
	flipAt(b, pageAt(b, random)+random.IntN(64), random)
	return b
}

func flipAt(b []byte, at int, random *rand.Rand) { b[at] ^= 1 << random.IntN(8) }

// pageAt returns where some page begins.
func pageAt(b []byte, random *rand.Rand) int { return random.IntN(len(b)/damagePage) * damagePage }

func oldVersion(versions [][]byte, random *rand.Rand) []byte {
	if len(versions) == 1 {
		return versions[0]
	}
	return versions[random.IntN(len(versions)-1)]
}

// age puts pages of an old version in the place of the present ones.
func age(b []byte, versions [][]byte, pages int, random *rand.Rand) []byte {
	old := oldVersion(versions, random)
	for range pages {
		at := pageAt(old, random)
		if at+damagePage <= len(b) {
			copy(b[at:at+damagePage], old[at:])
		}
	}
	return b
}
