package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/internal/boltfile/boltfiletest"
)

// While no fsync returns, no Check fails before q calls of a key are unsaved,
// no later one is allowed, and changes are refused; once the disk is well,
// all work again in the same process. The disk is stalled for 30 seconds with
// TOKENKIT_LONG=1, otherwise for little more than it takes to refuse a change.
func TestStalledDisk(t *testing.T) {
	t.Parallel()
	boltfiletest.OnDisk(t, func(t *testing.T, disk *boltfiletest.Disk) {
		stalled := 6 * time.Second
		if os.Getenv("TOKENKIT_LONG") != "" {
			stalled = 30 * time.Second
		}
		command(t, testPassword+"\n", "user", "add", testUser, "--data", disk.Dir)
		s := startServer(t, disk.Dir, "--block-ignore", "rate_limited")
		t.Cleanup(func() { _ = disk.Heal() }) // before the service is stopped
		client := admin.NewOperatorClient(filepath.Join(disk.Dir, "control.sock"))
		defer client.Close()
		checks := newChecker(t, s.grpc)
		defer checks.close()
		create := func(limit int64) (admin.CreatedKey, error) {
			asked := admin.NewKey{Name: "key", RateLimitPerHour: &limit}
			if limit == 0 {
				asked.RateLimitPerHour = nil
			}
			return client.CreateKey(t.Context(), admin.OwnedKey{Owner: testUser, NewKey: asked})
		}
		const q = 100
		limited, err := create(64 * q)
		if err != nil {
			t.Fatal(err)
		}
		free, err := create(0)
		if err != nil {
			t.Fatal(err)
		}
		allowed := func(key admin.CreatedKey) bool {
			t.Helper()
			answer, err := checks.ask(key.Key, "", "")
			if err != nil {
				t.Logf("Check: %v", err)
			}
			return err == nil && answer.Allowed
		}
		// The first call of a new key waits to be saved.
		if !allowed(limited) || !allowed(free) {
			t.Fatal("a Check fails on a disk that is well")
		}

		if err := disk.Stall("sync", 0); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var changes sync.WaitGroup
		changes.Go(func() {
			_, err := create(0)
			var problem *admin.Problem
			if !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || problem.Code != admin.CodeStorageUnavailable {
				t.Errorf("a change on a stalled disk: %v, want 503", err)
			}
		})
		for i := range q {
			if !allowed(limited) {
				t.Errorf("call %d of %d on a stalled disk is not allowed", i+1, q)
			}
			if !allowed(free) {
				t.Errorf("a call without a limit is not allowed on a stalled disk")
			}
			time.Sleep(time.Until(began.Add(stalled * time.Duration(i+1) / q)))
		}
		impatient := newChecker(t, s.grpc)
		defer impatient.close()
		impatient.timeout = time.Second
		if answer, err := impatient.ask(limited.Key, "", ""); err == nil && answer.Allowed {
			t.Errorf("call %d is allowed while %d are not saved", q+1, q)
		}
		changes.Wait()

		if err := disk.Heal(); err != nil {
			t.Fatal(err)
		}
		if !allowed(limited) || !allowed(free) {
			t.Error("a Check fails after the stall")
		}
		deadline := time.Now().Add(20 * time.Second)
		for _, err = create(0); err != nil && time.Now().Before(deadline); _, err = create(0) {
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("a change after the stall: %v", err)
		}
	})
}
