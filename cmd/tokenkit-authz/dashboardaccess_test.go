package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

//go:embed testdata/axe/axe.min.js
var axeScript string

// axeFinding is a rule of axe-core that a page breaks, and where.
type axeFinding struct {
	ID    string
	Help  string
	Nodes []struct {
		Target         []any
		FailureSummary string `json:"failureSummary"`
	}
}

// check lets axe-core look at what is shown, with all its rules.
func (w *walk) check(t testing.TB, name string) {
	t.Helper()
	text, err := chromedp.Run(w.tab, chromedp.Evaluate[string](`(async () => {
		if (!globalThis.axe) { `+axeScript+` }
		const { violations } = await axe.run(document, { resultTypes: ['violations'] });
		return JSON.stringify(violations);
	})()`, chromedp.EvalAwaitPromise))
	var findings []axeFinding
	if err == nil {
		err = json.Unmarshal([]byte(text), &findings)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	w.axe += len(findings)
	for _, finding := range findings {
		for _, node := range finding.Nodes {
			t.Errorf("%s: %s (%s) at %v: %s", name, finding.Help, finding.ID, node.Target, node.FailureSummary)
		}
	}
}

// scene is one thing to look at.
type scene struct {
	name string
	show func()
}

// scenes returns every page and dialog, in an order in which each can be
// shown, with some life in what they show.
func (w *walk) scenes(t *testing.T) (before, after []scene) {
	open := func(path, text string) func() {
		return func() {
			w.open(path)
			w.see(text)
		}
	}
	key := fmt.Sprintf("/settings/api-keys/%d", w.id(t, "my-app-prod"))
	dialog := func(path, button, text string) func() {
		return func() {
			w.open(path)
			w.click(button)
			w.see(text)
		}
	}
	menu := func(action, text string) func() {
		return func() {
			w.open(key)
			w.click("Actions for my-app-prod")
			w.click(action)
			w.see(text)
		}
	}
	before = []scene{
		{"sign-in", open("/sign-in", "Password")},
		{"accept-invitation", open("/accept-invitation#token", "Choose a password")},
		{"accept-invitation-incomplete", open("/accept-invitation", "incomplete")},
	}
	after = []scene{
		{"api-keys", func() { w.open("/settings/api-keys"); w.row("my-app-prod", "of 5,000") }},
		{"api-keys-none-match", open("/settings/api-keys?search=zzz", "No key matches")},
		{"generate-key", func() {
			dialog("/settings/api-keys", "Generate Key", "More options")()
			w.click("More options")
			w.click("Add entry")
		}},
		{"save-your-key", func() {
			dialog("/settings/api-keys", "Generate Key", "More options")()
			w.enter("Name", "shown-once")
			w.click("Create key")
			w.see("Save your key")
		}},
		{"key", func() { w.open(key); w.see("calls left", "Allowed 8", "History", "Who") }},
		{"key-used-up", func() { w.openKey(t, "almost-used-up"); w.see("0 calls left", "Rate limited 5"); w.click("Hour") }},
		{"key-explain", func() {
			w.open(key)
			w.enter("IP address", "203.0.113.10")
			w.click("Test request")
			w.see("not checked")
		}},
		{"key-menu", func() { w.open(key); w.click("Actions for my-app-prod"); w.see("Rotate…") }},
		{"key-edit", dialog(key, "Edit", "Metadata")},
		{"key-rotate", menu("Rotate…", "share one counter")},
		{"key-revoke", menu("Revoke…", "to confirm")},
		{"key-not-found", open("/settings/api-keys/999999", "Not found")},
		{"blocked", func() { w.open("/settings/blocked"); w.row("127.0.0.66") }},
		{"audit", func() { w.open("/settings/audit"); w.row("Key created"); w.row("Signed in") }},
		{"users", func() { w.open("/settings/users"); w.row("ada"); w.row("grace") }},
		{"users-invite", dialog("/settings/users", "Invite user", "Make link")},
		{"account", func() { w.open("/settings/account"); w.row("This session") }},
	}
	return before, after
}

// furnish gives the pages something to show.
func (w *walk) furnish(t *testing.T) {
	command(t, testPassword+"\n", "user", "add", "ada", "--data", w.data)
	w.call(t, "POST", "/api/users/auth/users/invite/", `{"name": "grace", "role": "viewer"}`, http.StatusCreated, nil)
	key := w.createKey(t, `{"name": "my-app-prod", "allowed_ips": ["127.0.0.0/8", "203.0.113.10"], "rate_limit_per_hour": 5000, "notes": "The shop's front end.",
		"metadata": {"plan": "pro"}, "scopes": ["GET,HEAD /api/tokens/"], "expires_at": "2099-01-01T00:00:00Z"}`)
	w.createKey(t, `{"name": "indexer-cron", "allowed_ips": ["203.0.113.10"], "strict": true, "rate_limit_per_hour": 10000}`)
	full := w.createKey(t, `{"name": "almost-used-up", "allowed_origins": ["https://app.example.io"], "rate_limit_per_hour": 4}`)
	paused := w.createKey(t, `{"name": "paused-for-now"}`)
	w.call(t, "PATCH", fmt.Sprintf("/api/users/auth/api-keys/%d/", paused.ID), `{"enabled": false}`, http.StatusOK, nil)
	for range 8 {
		w.status(t, key.Key)
	}
	for range 9 {
		w.status(t, full.Key)
	}
	guesser := clientFrom("127.0.0.66", 1)
	for range 10 {
		if _, err := get(t.Context(), guesser, w.front, "tk_wrong"); err != nil {
			t.Fatal(err)
		}
	}
}

// No page breaks a rule of axe-core or needs scrolling to the side, in light
// and dark, wide and narrow. TOKENKIT_SCREENSHOTS names a folder for pictures
// of all.
func TestDashboardAccess(t *testing.T) {
	_, n := depth()
	if n == 0 {
		t.Skip("only with TOKENKIT_BROWSER, as make browser sets it")
	}
	t.Parallel()
	w := startWalk(t)
	w.furnish(t)
	before, after := w.scenes(t)
	looks := []struct {
		name          string
		width, height int64
		colours       string
	}{
		{"light-wide", 1280, 900, "light"}, {"dark-narrow", 390, 844, "dark"}, {"dark-wide", 1280, 900, "dark"}, {"light-narrow", 390, 844, "light"},
	}[:n]
	look := func(t *testing.T, scenes []scene) {
		for _, s := range scenes {
			s.show()
			for _, l := range looks {
				name := s.name + "-" + l.name
				w.size(l.width, l.height)
				w.colours(l.colours)
				w.settle()
				w.check(t, name)
				w.picture(name)
				if excess := do[int](w.person, "excess"); excess > 0 {
					t.Errorf("%s: the page is %d pixels wider than the screen", name, excess)
				}
			}
			w.size(1280, 900)
			w.colours("light")
		}
	}
	w.flow(t, "pages before signing in", func(t *testing.T) { look(t, before) })
	w.flow(t, "pages after signing in", func(t *testing.T) {
		w.signIn(testUser, testPassword)
		look(t, after)
	})
}

// The browser's complaints that the flows look for are really noticed.
func TestDashboardNotices(t *testing.T) {
	t.Parallel()
	s := startServer(t, t.TempDir())
	p := startPerson(t, "http://"+s.admin)
	p.open("/sign-in")
	for _, script := range []string{
		"document.head.append(Object.assign(document.createElement('style'), { textContent: 'b { color: red }' }))",
		"document.body.append(Object.assign(document.createElement('img'), { src: 'http://127.0.0.1:1/x.png' }))",
		"fetch('http://127.0.0.1:1/').catch(() => 0)",
		"try { document.body.innerHTML = '<b>x</b>' } catch { }",
	} {
		if _, err := chromedp.Run(p.tab, chromedp.Evaluate[chromedp.Void](script)); err != nil {
			t.Fatal(err)
		}
		do[bool](p, "settled")
		if _, violations := p.complaints(); len(violations) == 0 {
			t.Errorf("nothing is noticed of %s", script)
		}
	}
	for _, script := range []string{"console.error('x')", "setTimeout(() => { throw new Error('x') })", "Promise.reject(new Error('x'))"} {
		if _, err := chromedp.Run(p.tab, chromedp.Evaluate[chromedp.Void](script)); err != nil {
			t.Fatal(err)
		}
		do[bool](p, "settled")
		if faults, _ := p.complaints(); len(faults) == 0 {
			t.Errorf("nothing is noticed of %s", script)
		}
	}
	w := &walk{person: p}
	if _, err := chromedp.Run(p.tab, chromedp.Evaluate[chromedp.Void]("document.querySelector('label').remove()")); err != nil {
		t.Fatal(err)
	}
	findings := &notes{TB: t}
	w.check(findings, "sign-in")
	if w.axe == 0 || !strings.Contains(findings.text, "label") {
		t.Errorf("axe-core does not miss a label: %s", findings.text)
	}
}

// notes keeps errors instead of failing.
type notes struct {
	testing.TB
	text string
}

func (n *notes) Helper() {}

func (n *notes) Errorf(format string, args ...any) { n.text += fmt.Sprintf(format, args...) }
