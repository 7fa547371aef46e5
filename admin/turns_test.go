package admin

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func isBusy(err error) bool {
	var problem *Problem
	return errors.As(err, &problem) && problem.Code == CodeBusy && problem.GetHeaders().Get("Retry-After") == "1"
}

// At most so many hashes are made at once, at most so many wait, and a waiter
// whose time is up goes.
func TestHashesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(testCost, nil, nil)
		var leave []func(time.Duration)
		for range cap(h.turns.running) {
			one, err := h.turns.enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			leave = append(leave, one)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.hash(ended, "password"); !isBusy(err) {
			t.Errorf("a waiter whose time was up: %v", err)
		}
		waiters := make(chan error)
		n := cap(h.turns.waiting) - len(h.turns.waiting)
		for range n {
			go func() {
				_, err := h.hash(t.Context(), "password")
				waiters <- err
			}()
		}
		synctest.Wait()
		if _, _, err := h.verify(t.Context(), "", "password"); !isBusy(err) {
			t.Errorf("one more than may wait: %v", err)
		}
		for _, one := range leave {
			one(time.Millisecond)
		}
		for range n {
			if err := <-waiters; err != nil {
				t.Errorf("a waiter: %v", err)
			}
		}
		if synctest.Wait(); len(h.turns.running) != 0 || len(h.turns.waiting) != 0 {
			t.Errorf("%d run and %d wait in the end", len(h.turns.running), len(h.turns.waiting))
		}
	})
}

// timed returns a hasher one of whose hashes takes 25 ms, and when each began.
func timed() (h *hasher, began *[]time.Duration) {
	start := time.Now()
	began = new([]time.Duration)
	h = newHasher(testCost, nil, func() func() {
		*began = append(*began, time.Since(start)) // one at a time
		time.Sleep(25 * time.Millisecond)
		return func() {}
	})
	h.turns = newTurns(1)
	return h, began
}

// Where many sign in at once, hashing uses an eighth of a processor; none waits
// so long that it would be for nothing.
func TestAttackHashingShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, began := timed()
		const logins = 1000
		results := make(chan error, logins)
		for range logins {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
				defer cancel()
				_, _, err := h.verify(ctx, "", "a guess")
				results <- err
			}()
		}
		hashed, busy := 0, 0
		for range logins {
			switch err := <-results; {
			case err == nil:
				hashed++
			case isBusy(err):
				busy++
			default:
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if hashed != 1+waitersPerRunner || hashed+busy != logins || len(*began) != hashed {
			t.Errorf("%d hashed and %d busy of %d, want %d hashed", hashed, busy, logins, 1+waitersPerRunner)
		}
		for i, at := range *began {
			if want := time.Duration(i) * 200 * time.Millisecond; at != want {
				t.Errorf("hash %d began after %v, want %v", i, at, want)
			}
		}
	})
}

// One client that signs in again and again, without waiting for anything else,
// is as fast as the machine at first, and then uses the same share.
func TestAttackHashingOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, began := timed()
		for range 100 {
			if _, _, err := h.verify(t.Context(), "", "a guess"); err != nil {
				t.Fatal(err)
			}
		}
		fast := 0
		for i, at := range *began {
			if i > 0 && at-(*began)[i-1] == 25*time.Millisecond {
				fast++
			}
		}
		// Those that are spare, and what is saved up meanwhile.
		if took := (*began)[99]; fast < spareHashes || fast > spareHashes+10 || took < 14*time.Second {
			t.Errorf("100 hashes began within %v, %d of them at once, want about %d", took, fast, spareHashes)
		}
		time.Sleep(spareHashes * spareEvery) // it is forgotten
		before := len(*began)
		for range spareHashes {
			_, _, _ = h.verify(t.Context(), "", "a guess")
		}
		if took := (*began)[len(*began)-1] - (*began)[before]; took != (spareHashes-1)*25*time.Millisecond {
			t.Errorf("later %d hashes took %v, want no rest between them", spareHashes, took)
		}
		time.Sleep(time.Second)
	})
}

// What takes long by itself does not make others wait for longer than half a
// second.
func TestRestIsBounded(t *testing.T) {
	turns := newTurns(1)
	now := time.Now()
	for range spareHashes {
		if got := turns.rest(time.Second, now); got != 0 {
			t.Fatalf("rests %v while there are spare hashes", got)
		}
	}
	if got := turns.rest(time.Second, now); got != mostRest {
		t.Errorf("rests %v, want %v", got, mostRest)
	}
}
