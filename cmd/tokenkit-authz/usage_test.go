package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/usage"
	"github.com/tokenkithq/authz/usage/usagefile"
)

// Calls are counted by what became of them and are there after a stop; those
// of a key that is deleted are gone, and with --usage=false nothing is counted.
func TestUsage(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
	key := createKeyOffline(t, data, "web", "--owner", testUser, "--rate-limit", "2")
	s := startServer(t, data)
	call := func(s *server, calls int) {
		t.Helper()
		checks := newChecker(t, s.grpc)
		defer checks.close()
		for range calls {
			if _, err := checks.ask(key.Key, "", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	call(s, 3)
	s.stop(t)
	expect := func(want usage.Counts) {
		t.Helper()
		file, err := usagefile.Open(t.Context(), filepath.Join(data, "usage.db"), usagefile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		recorder, err := usage.New(t.Context(), usage.Options{Journal: file})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		points, err := recorder.Series(t.Context(), key.ID, usage.Day, now.Add(-24*time.Hour), now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		var all usage.Counts
		for i := range points {
			all.Add(&points[i].Counts)
		}
		if all != want {
			t.Errorf("got %v, expected %v", all, want)
		}
	}
	expect(usage.Counts{usage.Allowed: 2, usage.Limited: 1})

	s = startServer(t, data, "--usage=false")
	call(s, 1)
	s.stop(t)
	expect(usage.Counts{usage.Allowed: 2, usage.Limited: 1})

	s = startServer(t, data)
	client := admin.NewOperatorClient(filepath.Join(data, "control.sock"))
	defer client.Close()
	if _, err := client.DeleteKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	s.stop(t)
	expect(usage.Counts{})
}
