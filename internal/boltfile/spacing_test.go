package boltfile_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/internal/boltfile"
)

// Time stands still here while anybody works: what passes is what was waited.
func TestCommitsAreSpacedForSeveralCallersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openAt(t, filepath.Join(t.TempDir(), "file"))
		start := time.Now()
		for i := range 100 {
			put(t, f, "a", fmt.Sprint(i), "value")
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("one caller waited %v in 100 changes", waited)
		}
		const callers, each = 8, 25
		start = time.Now()
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				for j := range each {
					put(t, f, "b", fmt.Sprint(i, j), "value")
				}
			})
		}
		all.Wait()
		// A commit takes one change of each caller at the most, and most of
		// them, when they wait for each other, take one of each.
		if waited := time.Since(start); waited < 400*time.Millisecond || waited > time.Second {
			t.Errorf("%d callers waited %v in %d changes each", callers, waited, each)
		}
		start = time.Now()
		put(t, f, "a", "alone", "value") // finds the last commit a shared one
		put(t, f, "a", "alone", "again")
		if waited := time.Since(start); waited > 20*time.Millisecond {
			t.Errorf("one caller, after there were several, waited %v", waited)
		}
		if all := dump(t, f); len(all) != 101+callers*each {
			t.Errorf("%d records, expected %d", len(all), 101+callers*each)
		}
		// Closing does not wait for what is spaced.
		begun := make(chan struct{}, callers)
		for i := range callers {
			all.Go(func() {
				for j := range each {
					err := f.Update(context.Background(), func(tx *boltfile.Tx) error { return tx.Put("b", fmt.Append(nil, "late", i, j), nil) })
					if err != nil {
						return
					}
					begun <- struct{}{}
				}
			})
		}
		for range callers {
			<-begun
		}
		go func() {
			for range begun {
			}
		}()
		closing := time.Now()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if waited := time.Since(closing); waited != 0 {
			t.Errorf("closing waited %v", waited)
		}
		all.Wait()
		close(begun)
	})
}

func TestCommitsAreReported(t *testing.T) {
	o, commits := options, 0
	o.Committed = func(took time.Duration) {
		if took <= 0 {
			t.Errorf("a commit took %v", took)
		}
		commits++
	}
	f, err := boltfile.Open(t.Context(), filepath.Join(t.TempDir(), "file"), o)
	if err != nil {
		t.Fatal(err)
	}
	before := commits
	put(t, f, "a", "key", "value")
	put(t, f, "a", "key", "another")
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if commits-before != 2 {
		t.Errorf("%d commits were reported, expected 2", commits-before)
	}
}
