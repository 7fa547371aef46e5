package dashboard_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/admin/dashboard"
)

func newBoard(t testing.TB, options dashboard.Options) *dashboard.Dashboard {
	t.Helper()
	board, err := dashboard.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return board
}

func ask(board http.Handler, method, path, encoding string) *http.Response {
	request := httptest.NewRequest(method, path, nil)
	if encoding != "" {
		request.Header.Set("Accept-Encoding", encoding)
	}
	recorder := httptest.NewRecorder()
	board.ServeHTTP(recorder, request)
	return recorder.Result()
}

func body(t testing.TB, response *http.Response) []byte {
	t.Helper()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

var address = regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`)

// files returns the addresses of all that the shell loads at once.
func files(t testing.TB, board http.Handler) []string {
	t.Helper()
	seen := map[string]bool{}
	var all []string
	for _, match := range address.FindAllStringSubmatch(string(body(t, ask(board, "GET", "/", ""))), -1) {
		if !seen[match[1]] {
			seen[match[1]] = true
			all = append(all, match[1])
		}
	}
	if len(all) < 10 {
		t.Fatalf("the shell names only %d files", len(all))
	}
	return all
}

func TestShell(t *testing.T) {
	board := newBoard(t, dashboard.Options{APIURL: "https://api.example.io/", Version: "1.2.3<script>"})
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"GET", "/sign-in", 200}, {"GET", "/accept-invitation", 200}, {"GET", "/settings", 200},
		{"GET", "/settings/api-keys", 200}, {"GET", "/settings/api-keys/12", 200}, {"GET", "/settings/blocked", 200},
		{"GET", "/settings/audit", 200}, {"GET", "/settings/users", 200}, {"GET", "/settings/account", 200},
		{"GET", "/settings/api-keys/12/more", 404}, {"GET", "/nothing", 404}, {"GET", "/assets/", 404}, {"POST", "/settings", 404},
		{"GET", "/assets/0000000000000000/main.js", 404},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			response := ask(board, c.method, c.path, "")
			if response.StatusCode != c.status {
				t.Fatalf("got %d, want %d", response.StatusCode, c.status)
			}
			if kind := response.Header.Get("Content-Type"); c.status == 404 && kind != "application/problem+json" {
				t.Errorf("refused as %q", kind)
			}
			if c.status == 200 && response.Header.Get("Content-Security-Policy") != dashboard.Policy {
				t.Error("answered without its policy")
			}
		})
	}
	shell := string(body(t, ask(board, "GET", "/", "")))
	if !strings.Contains(shell, `content="https://api.example.io"`) {
		t.Error("the shell does not name the API")
	}
	if strings.Contains(shell, "1.2.3<script>") {
		t.Error("the version became markup")
	}
	if regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script(>| [^>]*[^/]>[^<])`).MatchString(shell) {
		t.Error("the shell holds inline style or script, which its policy forbids")
	}
}

func TestPolicy(t *testing.T) {
	for _, directive := range []string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
	} {
		if !slices.Contains(strings.Split(dashboard.Policy, "; "), directive) {
			t.Errorf("the policy lacks %q", directive)
		}
	}
	if strings.Contains(dashboard.Policy, "unsafe") || strings.Contains(dashboard.Policy, "http") {
		t.Errorf("the policy opens something: %s", dashboard.Policy)
	}
}

func TestOptions(t *testing.T) {
	for name, target := range map[string]string{
		"no scheme": "api.example.io", "other scheme": "ftp://api.example.io", "no host": "https://", "password": "https://a:b@api.example.io",
		"query": "https://api.example.io?x", "not an address": "https://[",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := dashboard.New(dashboard.Options{APIURL: target}); err == nil || !strings.Contains(err.Error(), "APIURL") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Each file is served compressed and not, and may be kept for good.
func TestFiles(t *testing.T) {
	board := newBoard(t, dashboard.Options{})
	for _, path := range files(t, board) {
		plain := ask(board, "GET", path, "")
		small := ask(board, "GET", path, "br, gzip;q=0.5")
		refused := ask(board, "GET", path, "gzip;q=0")
		for _, response := range []*http.Response{plain, small, refused} {
			if response.StatusCode != 200 || response.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" ||
				response.Header.Get("Vary") != "Accept-Encoding" || response.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Fatalf("%s: %d %v", path, response.StatusCode, response.Header)
			}
		}
		want := body(t, plain)
		if got := body(t, refused); !bytes.Equal(got, want) {
			t.Errorf("%s: gzip was refused and sent", path)
		}
		content := body(t, small)
		if small.Header.Get("Content-Encoding") == "gzip" {
			reader, err := gzip.NewReader(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if content, err = io.ReadAll(reader); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(content, want) {
			t.Errorf("%s differs when compressed", path)
		}
	}
}

// All that any page loads is at most 150 KB, compressed.
func TestWeight(t *testing.T) {
	board := newBoard(t, dashboard.Options{})
	paths := files(t, board)
	base := paths[0][:strings.LastIndex(paths[0], "/")]
	weight := len(body(t, ask(board, "GET", "/", "")))
	for _, path := range append(paths, base+"/uplot/uPlot.iife.min.js", base+"/uplot/uPlot.min.css") {
		response := ask(board, "GET", path, "gzip")
		if response.StatusCode != 200 {
			t.Fatalf("%s: %d", path, response.StatusCode)
		}
		weight += len(body(t, response))
	}
	t.Logf("%d files, %d bytes compressed", len(paths)+2, weight)
	if weight > 150_000 {
		t.Errorf("the pages weigh %d bytes, want at most 150,000", weight)
	}
}

var imported = regexp.MustCompile(`(?m)^import .*'(\./[^']+)';$|import\('(\./[^']+)'\)`)

// Every import names a module that is embedded, and no module builds markup
// or code from text.
func TestModules(t *testing.T) {
	names, err := filepath.Glob("assets/*.js")
	if err != nil || len(names) < 10 {
		t.Fatalf("found %d modules: %v", len(names), err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range imported.FindAllStringSubmatch(string(content), -1) {
			if _, err := os.Stat(filepath.Join("assets", match[1]+match[2])); err != nil {
				t.Errorf("%s imports %s", name, match[1]+match[2])
			}
		}
		for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "javascript:"} {
			if strings.Contains(string(content), word) {
				t.Errorf("%s uses %s", name, word)
			}
		}
		if lines := bytes.Count(content, []byte("\n")); lines > 300 {
			t.Errorf("%s has %d lines", name, lines)
		}
	}
}
