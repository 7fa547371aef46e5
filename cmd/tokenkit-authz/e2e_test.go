package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tokenkithq/authz/internal/real"
)

// The commands of the public documentation work as printed there, with only
// the host, the key, the token and the password put in.
func TestDocumentedCommands(t *testing.T) {
	real.Require(t, "curl")
	k := startStack(t)
	key := k.createKey(t, `{"name": "seed"}`)
	run := func(line string) string {
		t.Helper()
		line = strings.NewReplacer(
			"https://api.tokenkithq.io", k.front, "YOUR_API_KEY", key.Key, "YOUR_SESSION_TOKEN", k.token,
			`"password": "..."`, `"password": "`+testPassword+`"`, `"key_id": 123`, fmt.Sprintf(`"key_id": %d`, key.ID),
		).Replace(line)
		out, err := exec.Command("sh", "-c", line+` -sS -w '\n%{http_code}'`).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	want := func(out string, status int, parts ...string) {
		t.Helper()
		if !strings.HasSuffix(out, fmt.Sprintf("\n%d", status)) {
			t.Errorf("want status %d, got %s", status, out)
		}
		for _, part := range parts {
			if !strings.Contains(out, part) {
				t.Errorf("want %s in %s", part, out)
			}
		}
	}
	want(run(`curl 'https://api.tokenkithq.io/api/tokens/?common=true' \
 -H 'api-key: YOUR_API_KEY'`), 200, "/api/tokens/?common=true")
	want(run(`curl 'https://api.tokenkithq.io/api/tokens/?common=true' \
 -H 'api-key: YOUR_API_KEY' \
 -H 'Authorization: Bearer YOUR_SESSION_TOKEN'`), 200, "/api/tokens/?common=true")
	want(run(`curl -X POST 'https://api.tokenkithq.io/api/users/auth/login/' \
 -H 'Content-Type: application/json' \
 -d '{"username": "you@example.com", "password": "..."}'`), 200, `"token"`)
	want(run(`curl -X POST 'https://api.tokenkithq.io/api/users/auth/create-api-key/' \
 -H 'Authorization: Bearer YOUR_SESSION_TOKEN' \
 -H 'Content-Type: application/json' \
 -d '{
 "name": "my-app-prod",
 "allowed_origins": ["https://app.example.io", "https://www.example.io"],
 "rate_limit_per_hour": 5000
 }'`), 201, `"key"`, "https://www.example.io", "5000")
	want(run(`curl -X POST 'https://api.tokenkithq.io/api/users/auth/create-api-key/' \
 -H 'Authorization: Bearer YOUR_SESSION_TOKEN' \
 -H 'Content-Type: application/json' \
 -d '{
 "name": "indexer-cron",
 "allowed_ips": ["203.0.113.10"],
 "rate_limit_per_hour": 10000
 }'`), 201, `"key"`, "203.0.113.10", "10000", "warnings")
	want(run(`curl -X POST 'https://api.tokenkithq.io/api/users/auth/create-api-key/' \
 -H 'Authorization: Bearer YOUR_SESSION_TOKEN' \
 -H 'Content-Type: application/json' \
 -d '{"name": "legacy", "domain": "example.io"}'`), 201, `"allowed_origins":["example.io"]`)
	list := run(`curl 'https://api.tokenkithq.io/api/users/auth/api-keys/' \
 -H 'Authorization: Bearer YOUR_SESSION_TOKEN'`)
	want(list, 200, `"id"`, `"name"`, `"created_at"`, `"last_used_at"`)
	body, _, _ := strings.Cut(list, "\n200")
	var keys []map[string]any
	if err := json.Unmarshal([]byte(body), &keys); err != nil || len(keys) != 4 {
		t.Errorf("the list is not an array of 4 keys: %v in %s", err, body)
	}
	if strings.Contains(list, key.Key) {
		t.Error("the list shows a key")
	}
	want(run(`curl -X POST 'https://api.tokenkithq.io/api/users/auth/api-keys/delete/' \
 -H 'Authorization: Bearer YOUR_SESSION_TOKEN' \
 -H 'Content-Type: application/json' \
 -d '{"key_id": 123}'`), 200)
	want(run(`curl 'https://api.tokenkithq.io/api/tokens/?common=true' \
 -H 'api-key: YOUR_API_KEY'`), 401, "invalid_key")
}

// While 32 connections use a key, it is deleted: no request that starts after
// the deletion was answered is allowed.
func TestDeleteIsImmediate(t *testing.T) {
	k := startStack(t)
	for round := range 5 {
		key := k.createKey(t, fmt.Sprintf(`{"name": "round %d"}`, round))
		// An address of its own each round: the failures afterwards block it.
		client := clientFrom(fmt.Sprintf("127.1.0.%d", round+1), 32)
		var deleted atomic.Bool
		var allowedBefore, late, after atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for range 2000 {
					startedAfter := deleted.Load()
					status, err := get(t.Context(), client, k.front, key.Key)
					if err != nil {
						t.Error(err)
						return
					}
					if status == http.StatusOK {
						if startedAfter {
							late.Add(1)
						}
						allowedBefore.Add(1)
					}
					if startedAfter && after.Add(1) > 200 {
						return
					}
				}
			})
		}
		for allowedBefore.Load() < 500 && !t.Failed() {
			time.Sleep(time.Millisecond) // until the key is well in use
		}
		k.call(t, "POST", "/api/users/auth/api-keys/delete/", fmt.Sprintf(`{"key_id": %d}`, key.ID), http.StatusOK, nil)
		deleted.Store(true)
		wg.Wait()
		if late.Load() > 0 || after.Load() == 0 {
			t.Errorf("round %d: %d of %d requests that started after the deletion were allowed", round, late.Load(), after.Load())
		}
		t.Logf("round %d: allowed=%d late=%d started_after=%d", round, allowedBefore.Load(), late.Load(), after.Load())
	}
}

// Of 10·N concurrent calls exactly N are allowed.
func TestExactLimit(t *testing.T) {
	// The denied calls must not block the address before the last allowed one.
	k := startStack(t, "--block-ignore", "rate_limited")
	for i, n := range []int64{1, 60, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			key := k.createKey(t, fmt.Sprintf(`{"name": "n", "rate_limit_per_hour": %d}`, n))
			client := clientFrom(fmt.Sprintf("127.2.0.%d", i+1), 64)
			var next, allowed, denied atomic.Int64
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for next.Add(1) <= 10*n {
						status, err := get(t.Context(), client, k.front, key.Key)
						switch {
						case err != nil:
							t.Error(err)
							return
						case status == http.StatusOK:
							allowed.Add(1)
						case status == http.StatusForbidden:
							denied.Add(1)
						default:
							t.Errorf("status %d", status)
						}
					}
				})
			}
			wg.Wait()
			if allowed.Load() != n || denied.Load() != 9*n {
				t.Errorf("%d allowed and %d denied of %d calls, want exactly %d allowed", allowed.Load(), denied.Load(), 10*n, n)
			}
		})
	}
}
