package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
)

// walk is one person's way through the dashboard of a whole stack. Its flows
// build upon each other, as the days of a key do.
type walk struct {
	*stack
	*person
	flows, failed, axe, csp int
}

func startWalk(t *testing.T) *walk {
	k := startStack(t)
	w := &walk{stack: k, person: startPerson(t, "http://"+k.admin)}
	for _, permission := range []string{"clipboard-read", "clipboard-write"} {
		err := chromedpBrowser(w.person, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: permission}, Setting: browser.PermissionSettingGranted, Origin: w.origin,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Last, so that other figures of the test do not follow it.
	t.Cleanup(func() {
		if !t.Skipped() {
			fmt.Printf("flows=%d failed=%d axe=%d csp=%d\n", w.flows, w.failed, w.axe, w.csp)
		}
	})
	return w
}

func chromedpBrowser(p *person, params browser.SetPermissionParams) error {
	_, err := chromedp.CallBrowser(p.tab, browser.SetPermission, params)
	return err
}

// flow runs one flow, and counts what the browser complained of during it.
func (w *walk) flow(t *testing.T, name string, run func(*testing.T)) {
	t.Helper()
	w.flows++
	passed := t.Run(name, func(t *testing.T) {
		before := w.TB
		w.TB = t
		defer func() { w.TB = before }()
		run(t)
		faults, violations := w.complaints()
		w.csp += len(violations)
		for _, text := range append(faults, violations...) {
			t.Errorf("the browser complains: %s", text)
		}
	})
	if !passed {
		w.failed++
	}
}

// signIn signs in from wherever the browser is.
func (w *walk) signIn(name, password string) {
	w.TB.Helper()
	w.open("/sign-in")
	w.enter("User name or e-mail", name)
	w.enter("Password", password)
	w.click("Sign in")
	do[bool](w.person, "path", "/settings/api-keys")
	w.settle()
}

func (w *walk) settle() {
	w.TB.Helper()
	do[bool](w.person, "settled")
}

// status asks for the protected example with a key through Envoy.
func (w *walk) status(t *testing.T, key string) int {
	t.Helper()
	status, err := get(t.Context(), http.DefaultClient, w.front, key)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// shown returns the value that "Save your key" shows, and closes it.
func (w *walk) shown(t *testing.T) string {
	t.Helper()
	w.see("Save your key")
	key := w.value("Your new key")
	if !strings.HasPrefix(key, "tk_") {
		t.Fatal("the dialog shows no key")
	}
	w.click("I have saved it")
	return key
}

// id returns the id of a key by its name.
func (w *walk) id(t *testing.T, name string) int64 {
	t.Helper()
	var keys []createdKey
	w.call(t, "GET", "/api/users/auth/api-keys/?owner=*&search="+name, "", http.StatusOK, &keys)
	for _, key := range keys {
		if key.Name == name {
			return key.ID
		}
	}
	t.Fatalf("there is no key %s", name)
	return 0
}

func (w *walk) openKey(t *testing.T, name string) {
	t.Helper()
	w.open(fmt.Sprintf("/settings/api-keys/%d", w.id(t, name)))
	w.see(name, "Test a request")
}

// depth says how much of the dashboard the tests try, as TOKENKIT_BROWSER says:
// a little for every run of all tests, "short" for every flow and page, "long"
// for every page in every look.
func depth() (flows bool, looks int) {
	switch os.Getenv("TOKENKIT_BROWSER") {
	case "long":
		return true, 4
	case "short":
		return true, 2
	}
	return false, 0
}

// The dashboard in a real browser, with real keys used through a real Envoy.
func TestDashboardFlows(t *testing.T) {
	t.Parallel()
	w := startWalk(t)
	all, _ := depth()
	if !all {
		w.flow(t, "first key", w.firstKey)
		w.flow(t, "revoke", w.revoke)
		return
	}
	w.flow(t, "refused sign-in", w.refusedSignIn)
	w.flow(t, "first key", w.firstKey)
	w.flow(t, "key with every option", w.everyOption)
	w.flow(t, "mistakes are shown at their fields", w.mistakes)
	w.flow(t, "warnings", w.warnings)
	w.flow(t, "search, filter and pages", w.search)
	w.flow(t, "back and forward", w.history)
	w.flow(t, "markup stays text", w.markup)
	w.flow(t, "usage and live limit", w.usage)
	w.flow(t, "test a request", w.explain)
	w.flow(t, "edit", w.edit)
	w.flow(t, "pause and enable", w.pause)
	w.flow(t, "rotate", w.rotate)
	w.flow(t, "revoke", w.revoke)
	w.flow(t, "blocked addresses", w.blocked)
	w.flow(t, "audit log", w.audit)
	w.flow(t, "keyboard alone", w.keyboard)
	w.flow(t, "colours", w.theme)
	w.flow(t, "invite, join, change role, remove", w.people)
	w.flow(t, "roles", w.roles)
	w.flow(t, "password and sessions", w.account)
	w.flow(t, "session that ends elsewhere", w.ended)
	w.flow(t, "unreachable server", w.unreachable)
}

func (w *walk) refusedSignIn(t *testing.T) {
	w.open("/settings/audit?action=key.")
	w.see("Sign in")
	w.enter("User name or e-mail", testUser)
	w.enter("Password", "not the password")
	w.click("Sign in")
	w.see("The user name or the password is wrong.")
}

// firstKey is the promise of the documentation: from the sign-in page to a
// copied key in four clicks and ten seconds.
func (w *walk) firstKey(t *testing.T) {
	w.open("/")
	w.see("Sign in")
	start, clicks := time.Now(), w.clicks
	w.typing(testUser)
	w.press("\t")
	w.typing(testPassword)
	w.click("Sign in")
	w.see("No API keys yet")
	w.click("Generate Key")
	w.see("More options")
	w.typing("first")
	w.click("Create key")
	w.see("Save your key")
	w.click("Copy")
	w.see("Key copied")
	took := time.Since(start)
	if n := w.clicks - clicks; n > 4 {
		t.Errorf("it took %d clicks", n)
	}
	t.Logf("from the sign-in page to a copied key in %v", took.Round(time.Millisecond))
	copied, err := chromedp.Run(w.tab, chromedp.Evaluate[string]("navigator.clipboard.readText()", chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	w.see("curl", "https://api.example.com/api/tokens/?common=true")
	w.click("JavaScript")
	w.see("await fetch(")
	if key := w.shown(t); key != copied {
		t.Error("what was copied is not the key")
	}
	if status := w.status(t, copied); status != http.StatusOK {
		t.Errorf("the copied key gets %d", status)
	}
	w.row("first", "Active", "Open key")
	if do[bool](w.person, "holds", copied) {
		t.Error("the page still holds the key after it was saved")
	}
}

func (w *walk) history(t *testing.T) {
	w.open("/settings/api-keys?search=first")
	w.click("first")
	w.see("Test a request")
	if title := do[string](w.person, "title"); title != "first · TokenKit" {
		t.Errorf("the key's page is called %q", title)
	}
	if _, err := chromedp.Run(w.tab, chromedp.NavigateBack()); err != nil {
		t.Fatal(err)
	}
	w.see("Generate Key", "1 key")
	if search := w.value("Search keys"); search != "first" {
		t.Errorf("after going back the search is %q", search)
	}
	if _, err := chromedp.Run(w.tab, chromedp.NavigateForward()); err != nil {
		t.Fatal(err)
	}
	w.see("Test a request")
}
