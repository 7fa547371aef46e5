package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/internal/real"
)

// TestServedOpenAPI generates requests from the description that the real
// server serves, good ones and bad, signed in and not, and checks every answer
// against it: no fault of the server, and no status, header, type or shape that
// is not described. TOKENKIT_CASES is how many requests at least, and "short"
// for one round of a few of each operation.
func TestServedOpenAPI(t *testing.T) {
	asked := os.Getenv("TOKENKIT_CASES")
	if asked == "" {
		t.Skip("SKIPPED, NOT TESTED: make openapi runs this")
	}
	program := real.Require(t, "schemathesis")
	// Requests that fail to sign in are from the peer, and those that sign in
	// here are not held up by them.
	s := startServer(t, filepath.Join(inMemory(t), "data"), "--admin-address-header", "x-test-address")
	tokens := owners(t, s, 30)
	// The short form fits into a minute: what it leaves out are sequences of
	// requests, and most of what is drawn at random.
	args, least := []string{"--max-examples", "3", "--phases", "examples,coverage,fuzzing"}, 1
	if asked != "short" {
		var err error
		if least, err = strconv.Atoi(asked); err != nil {
			t.Fatalf("TOKENKIT_CASES: %v", err)
		}
		args = []string{"--max-examples", "60"}
	}
	cases, failed := 0, 0
	for round := 0; cases < least; round++ {
		n, failures := generate(t, program, s.admin, tokens, append(args, "--seed", strconv.Itoa(round+1)))
		if n == 0 {
			t.Fatal("nothing was generated")
		}
		cases, failed = cases+n, failed+failures
	}
	t.Logf("cases=%d failed=%d", cases, failed)
	if failed > 0 {
		t.Fail()
	}
}

// inMemory returns a folder that no disk keeps, where there is one: a disk that
// others keep busy makes the server answer that it cannot confirm in time,
// which is no fault of its own.
func inMemory(t *testing.T) string {
	folder, err := os.MkdirTemp("/dev/shm", "tokenkit-authz-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

var (
	generated = regexp.MustCompile(`(?m)^\s*(\d+) generated`)
	unique    = regexp.MustCompile(`(\d+) unique failures?`)
)

// generate runs schemathesis once and returns how many cases it made, and how
// many unlike ways to fail it found.
func generate(t *testing.T, program, address string, tokens []string, args []string) (cases, failures int) {
	t.Helper()
	folder := t.TempDir() // schemathesis writes where it works
	if err := os.CopyFS(folder, os.DirFS(filepath.Join("testdata", "openapi"))); err != nil {
		t.Fatal(err)
	}
	args = append([]string{
		"run", "http://" + address + "/openapi.json", "--checks", "all", "--continue-on-failure", "--no-shrink", "--generation-database", "none",
	}, args...)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "TOKENKIT_BASE=http://"+address, "TOKENKIT_TOKENS="+strings.Join(tokens, " "),
		"PYTHONDONTWRITEBYTECODE=1", "NO_COLOR=1", "COLUMNS=200")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if match := generated.FindStringSubmatch(out.String()); match != nil {
		cases, _ = strconv.Atoi(match[1])
	}
	if match := unique.FindStringSubmatch(out.String()); match != nil {
		failures, _ = strconv.Atoi(match[1])
	}
	if err != nil {
		failures = max(failures, 1)
		t.Errorf("schemathesis: %v\n%s", err, out.String())
	}
	return cases, failures
}

// owners returns a session of each of n new owners, who have a key each.
func owners(t *testing.T, s *server, n int) []string {
	t.Helper()
	client := admin.NewOperatorClient(filepath.Join(s.data, "control.sock"))
	defer client.Close()
	tokens := make([]string, n)
	for i := range tokens {
		name := fmt.Sprintf("owner-%d", i)
		if _, err := client.AddUser(t.Context(), admin.NewUser{Name: name, Password: testPassword, Role: "owner"}); err != nil {
			t.Fatal(err)
		}
		limit := int64(100)
		if _, err := client.CreateKey(t.Context(), admin.OwnedKey{Owner: name, NewKey: admin.NewKey{Name: name, RateLimitPerHour: &limit}}); err != nil {
			t.Fatal(err)
		}
		address := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String()
		body := fmt.Sprintf(`{"username":%q,"password":%q}`, name, testPassword)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.admin+"/api/users/auth/login/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Test-Address", address)
		var session struct{ Token string }
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(answer.Body).Decode(&session)
		_ = answer.Body.Close()
		if err != nil || session.Token == "" {
			t.Fatalf("signing %s in: %s, %v", name, answer.Status, err)
		}
		tokens[i] = session.Token
	}
	return tokens
}
