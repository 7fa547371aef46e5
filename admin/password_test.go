package admin

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"
)

var testCost = PasswordCost{MemoryKiB: 8, Passes: 1, Parallelism: 1}

func TestPasswordRoundTrip(t *testing.T) {
	h := newHasher(testCost, nil, nil)
	rapid.Check(t, func(t *rapid.T) {
		password, other := rapid.String().Draw(t, "password"), rapid.String().Draw(t, "other")
		hash, err := h.hash(context.Background(), password)
		if err != nil {
			t.Fatal(err)
		}
		match, outdated, err := h.verify(context.Background(), hash, password)
		if err != nil || !match || outdated {
			t.Fatalf("its own hash: %v %v %v", match, outdated, err)
		}
		if match, _, _ := h.verify(context.Background(), hash, other+"x"+password); match {
			t.Fatal("another password matches")
		}
	})
}

// Known answers, so that hashes stay readable: the first was made by the
// reference implementation of argon2 (echo -n password | argon2 somesalt).
func TestPasswordKnownAnswers(t *testing.T) {
	h := newHasher(testCost, nil, nil)
	for hash, password := range map[string]string{
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc": "password",
	} {
		match, outdated, err := h.verify(t.Context(), hash, password)
		if err != nil || !match || !outdated {
			t.Errorf("%s: %v %v %v", hash, match, outdated, err)
		}
		if match, _, err := h.verify(t.Context(), hash, password+" "); match || err != nil {
			t.Errorf("a wrong password: %v %v", match, err)
		}
	}
}

// Whoever decides on processors hears of each hash, also of one that is made
// for a user who does not exist.
func TestHashingIsTold(t *testing.T) {
	working, told := 0, 0
	h := newHasher(testCost, nil, func() func() {
		working++
		told++
		return func() { working-- }
	})
	hash, err := h.hash(t.Context(), "a long password")
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []string{hash, ""} {
		if _, _, err := h.verify(t.Context(), known, "a long password"); err != nil {
			t.Fatal(err)
		}
	}
	if told != 3 || working != 0 {
		t.Errorf("told %d times, %d still working; expected 3 and 0", told, working)
	}
}

// Hashes that are made elsewhere are those that are made here, which happens
// where they cannot be made there. A hash rests for as long as it kept a
// processor busy, wherever that was.
func TestHashingElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := 0
		var failing error
		h := newHasher(testCost, func(ctx context.Context, in PasswordInput) (PasswordDigest, error) {
			select { // a busy machine
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
				return PasswordDigest{}, ctx.Err()
			}
			return PasswordDigest{argon2.IDKey(in.Password, in.Salt, in.Cost.Passes, in.Cost.MemoryKiB, in.Cost.Parallelism, in.Length), 25 * time.Millisecond}, failing
		}, func() func() { here++; return func() {} })
		h.turns = newTurns(1)
		hash, err := h.hash(t.Context(), "a long password")
		if err != nil {
			t.Fatal(err)
		}
		for _, failing = range []error{nil, errors.New("no process")} {
			for password, want := range map[string]bool{"a long password": true, "another password": false} {
				if match, _, err := h.verify(t.Context(), hash, password); match != want || err != nil {
					t.Errorf("%v: %v %v", failing, match, err)
				}
			}
		}
		if here != 2 {
			t.Errorf("%d hashes were made here, want the 2 that failed elsewhere", here)
		}
		failing = nil
		h.turns.spare, h.turns.saved = 0, time.Now().Add(time.Hour) // none is saved up
		_, _ = h.hash(t.Context(), "a long password")
		began := time.Now()
		_, _ = h.hash(t.Context(), "a long password")
		if got := time.Since(began); got != restFactor*25*time.Millisecond+300*time.Millisecond {
			t.Errorf("a hash after one that took 25 ms was there after %v", got)
		}
		time.Sleep(time.Second)
		left, leave := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer leave()
		began = time.Now()
		if match, _, err := h.verify(left, hash, "a long password"); !match || err != nil {
			t.Errorf("for somebody who has left: %v %v", match, err)
		}
		_, _ = h.hash(t.Context(), "a long password")
		if got := time.Since(began); got != restFactor*25*time.Millisecond+600*time.Millisecond {
			t.Errorf("a hash after one that nobody waited for was there after %v", got)
		}
		if here != 2 {
			t.Errorf("%d hashes were made here", here)
		}
		time.Sleep(time.Second)
	})
}

// One letter typed on two keyboards is one letter.
func TestPasswordForms(t *testing.T) {
	h := newHasher(testCost, nil, nil)
	hash, err := h.hash(t.Context(), "crème brûlée")
	if err != nil {
		t.Fatal(err)
	}
	if match, _, err := h.verify(t.Context(), hash, "cre\u0300me bru\u0302le\u0301e"); !match || err != nil {
		t.Errorf("the decomposed form: %v %v", match, err)
	}
	if match, _, err := h.verify(t.Context(), hash, "creme brulee"); match || err != nil {
		t.Errorf("without accents: %v %v", match, err)
	}
}

func TestPasswordRules(t *testing.T) {
	for password, want := range map[string]bool{
		"elevenchars": false, "twelve chars": true, "ééééééé": false, "éééééééééééé": true, strings.Repeat("x", 256): true,
		strings.Repeat("x", 257): false, strings.Repeat("é", 128): true, strings.Repeat("é", 129): false, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff": false,
		// twelve characters as typed, six as kept
		strings.Repeat("e\u0301", 6): false,
	} {
		err := checkPassword(password)
		if (err == nil) != want {
			t.Errorf("%d bytes: %v", len(password), err)
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Error("the error repeats the password")
		}
	}
}

// Nobody matches the hash of a user who does not exist, and no stored hash can
// ask for more than the bounds.
func TestPasswordRefusals(t *testing.T) {
	h := newHasher(testCost, nil, nil)
	if match, _, err := h.verify(t.Context(), "", ""); match || err != nil {
		t.Errorf("no user: %v %v", match, err)
	}
	if dummy, err := parsePasswordHash(h.dummy); err != nil || dummy.cost != testCost || len(dummy.salt) != saltLength || len(dummy.digest) != digestLength {
		t.Errorf("the dummy costs something else: %+v, %v", dummy.cost, err)
	}
	const salt, digest = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	for name, hash := range map[string]string{
		"plain": "password", "bcrypt": "$2y$10$abcdefghijklmnopqrstuv", "argon2i": "$argon2i$v=19$m=8,t=1,p=1$" + salt + "$" + digest,
		"old version": "$argon2id$v=16$m=8,t=1,p=1$" + salt + "$" + digest, "much memory": "$argon2id$v=19$m=1048577,t=1,p=1$" + salt + "$" + digest,
		"many passes": "$argon2id$v=19$m=8,t=17,p=1$" + salt + "$" + digest, "no passes": "$argon2id$v=19$m=8,t=0,p=1$" + salt + "$" + digest,
		"little memory": "$argon2id$v=19$m=8,t=1,p=2$" + salt + "$" + digest, "many threads": "$argon2id$v=19$m=999,t=1,p=17$" + salt + "$" + digest,
		"threads overflow": "$argon2id$v=19$m=8,t=1,p=257$" + salt + "$" + digest, "short salt": "$argon2id$v=19$m=8,t=1,p=1$c29t$" + digest,
		"short digest": "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$c29tZXNhbHQ", "padded": "$argon2id$v=19$m=8,t=1,p=1$" + salt + "=$" + digest,
		"trailing": "$argon2id$v=19$m=8,t=1,p=1x$" + salt + "$" + digest, "more": "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + digest + "$",
		"spaces": "$argon2id$v=19$m= 8,t=1,p=1$" + salt + "$" + digest,
	} {
		if match, _, err := h.verify(t.Context(), hash, "password"); match || !errors.Is(err, errPasswordHash) {
			t.Errorf("%s: %v %v", name, match, err)
		}
	}
}

func FuzzPasswordHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, text string) {
		if parsed, err := parsePasswordHash(text); err == nil && (parsed.String() != text || parsed.cost.validate() != nil) {
			t.Fatalf("%q reads as %q", text, parsed)
		}
	})
}
