package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

// A service with a million keys, of which many are in use, stays within 512 MiB.
// What it has mapped of the file does not count: the system takes those pages
// back whenever it needs them. It runs only with TOKENKIT_LONG=1.
func TestMillionKeys(t *testing.T) {
	if os.Getenv("TOKENKIT_LONG") == "" {
		t.Skip("takes a minute: set TOKENKIT_LONG=1")
	}
	const (
		keys = 1_000_000
		used = 200_000
	)
	data := t.TempDir()
	began := time.Now()
	secrets := importKeys(t, filepath.Join(data, "keys.db"), keys)
	t.Logf("imported in %v", time.Since(began).Round(time.Millisecond))
	binary(t) // is built before the start is timed
	began = time.Now()
	s := startServer(t, data)
	start := time.Since(began)
	first := memoryOf(t, s.cmd.Process.Pid)
	checks := newChecker(t, s.grpc)
	defer checks.close()
	began = time.Now()
	var callers sync.WaitGroup
	for range crashCheckers {
		callers.Go(func() {
			for range used / crashCheckers {
				answer, err := checks.ask(secrets[rand.IntN(keys)], "", "")
				if err != nil || !answer.Allowed {
					t.Errorf("a key is not allowed: %+v, %v", answer, err)
					return
				}
			}
		})
	}
	callers.Wait()
	last := memoryOf(t, s.cmd.Process.Pid)
	t.Logf("%d Checks in %v; MiB after the start: %v; after the Checks: %v", used, time.Since(began).Round(time.Millisecond), first, last)
	if last["RssAnon"] > 512 {
		t.Errorf("the service uses %d MiB, want at most 512", last["RssAnon"])
	}
	fmt.Printf("keys=%d memory_mib=%d mapped_file_mib=%d start_ms=%d\n", keys, last["RssAnon"], last["RssFile"], start.Milliseconds())
}

// importKeys makes a store of n keys without limits and returns their secrets.
func importKeys(t *testing.T, path string, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	keys, err := bolt.Open(ctx, path, bolt.Options{CommitTimeout: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{})
	var secrets []string
	// The more keys one import adds, the longer each of them takes.
	const batch = 20_000
	for len(secrets) < n {
		read, write := io.Pipe()
		first := len(secrets) + 1
		made := make([]string, min(batch, n-len(secrets)))
		go func() { _ = write.CloseWithError(exportKeys(write, random, first, made)) }()
		if _, err := keys.Import(ctx, read, store.Actor{}); err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, made...)
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
	return secrets
}

// exportKeys writes keys with ids from first on, and notes their secrets. The
// very first comes with its owner.
func exportKeys(w io.Writer, random io.Reader, first int, secrets []string) error {
	export := store.NewExportWriter(w, false)
	now := time.Now().UTC().Truncate(time.Microsecond)
	if first == 1 {
		if err := export.User(&store.User{ID: 1, Name: testUser, CreatedAt: now}); err != nil {
			return err
		}
	}
	for i := range secrets {
		secret, err := apikey.NewSecret(random)
		if err != nil {
			return err
		}
		secrets[i] = secret.Reveal()
		if err := export.Key(&apikey.Key{
			ID: apikey.KeyID(first + i), Hash: secret.Hash(), Hint: secret.Hint(), Name: "key", Owner: 1, OwnerName: testUser, CreatedAt: now,
		}); err != nil {
			return err
		}
	}
	return export.Close(store.LastIDs{User: 1, Key: apikey.KeyID(first + len(secrets) - 1)})
}

var memoryLine = regexp.MustCompile(`(?m)^(VmRSS|VmHWM|RssAnon|RssFile):\s+(\d+) kB$`)

// memoryOf returns what the kernel says of a process's memory, in MiB.
func memoryOf(t *testing.T, pid int) map[string]int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	memory := make(map[string]int)
	for _, match := range memoryLine.FindAllStringSubmatch(string(status), -1) {
		kib, err := strconv.Atoi(match[2])
		if err != nil {
			t.Fatal(err)
		}
		memory[match[1]] = kib >> 10
	}
	return memory
}
