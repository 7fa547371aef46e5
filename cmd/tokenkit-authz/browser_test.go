package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tokenkithq/authz/internal/real"
)

// A page calls the protected route across origins with a key that lists its
// origin: the browser's preflight and the call both succeed, and the page
// reads the answer and its limit. The same page on another origin gets 403,
// and can read why.
func TestBrowserAcrossOrigins(t *testing.T) {
	chromium := real.Require(t, "chromium")
	k := startStack(t)
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>page</title>")
	})
	good, other := httptest.NewServer(page), httptest.NewServer(page)
	defer good.Close()
	defer other.Close()
	key := k.createKey(t, fmt.Sprintf(`{"name": "page", "allowed_origins": [%q], "rate_limit_per_hour": 100}`, good.URL))

	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(60*time.Second))
	if os.Getenv("CHROMIUM_DEBUG") != "" {
		options = append(options, chromedp.CombinedOutput(os.Stderr))
	}
	allocator, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	defer cancel()
	browser, cancel := chromedp.NewContext(allocator)
	defer cancel()
	type answer struct {
		Status    int
		RateLimit string
		Body      string
		Error     string
	}
	fetch := func(origin, key string) answer {
		t.Helper()
		script := fmt.Sprintf(`fetch(%q, {headers: {'api-key': %q}}).then(async r => JSON.stringify({
			Status: r.status, RateLimit: r.headers.get('RateLimit') || '', Body: await r.text()
		})).catch(e => JSON.stringify({Error: String(e)}))`, k.front+"/api/tokens/?common=true", key)
		if _, err := chromedp.Run(browser, chromedp.Navigate(origin)); err != nil {
			t.Fatal(err)
		}
		text, err := chromedp.Run(browser, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := fetch(good.URL, key.Key); a.Status != 200 || !strings.Contains(a.RateLimit, "r=99") || !strings.Contains(a.Body, good.URL) {
		t.Errorf("on the allowed origin: %+v", a)
	}
	if a := fetch(other.URL, key.Key); a.Status != 403 || !strings.Contains(a.Body, "origin_not_allowed") {
		t.Errorf("on another origin: %+v", a)
	}
	if a := fetch(good.URL, key.Key+"x"); a.Status != 401 || !strings.Contains(a.Body, "invalid_key") {
		t.Errorf("with a wrong key: %+v", a)
	}
}
