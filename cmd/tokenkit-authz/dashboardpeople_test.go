package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

func (w *walk) blocked(t *testing.T) {
	w.open("/settings/blocked")
	w.see("No address is blocked")
	guesser := clientFrom("127.0.0.77", 1)
	for range 10 {
		if _, err := get(t.Context(), guesser, w.front, "tk_wrong"); err != nil {
			t.Fatal(err)
		}
	}
	w.click("Check again")
	w.row("127.0.0.77", "10")
	w.click("Unblock 127.0.0.77")
	w.see("127.0.0.77 is unblocked", "No address is blocked")
}

func (w *walk) audit(t *testing.T) {
	w.open("/settings/audit")
	w.row("Address unblocked", "127.0.0.77")
	w.row("Key changed", "pausable", testUser)
	w.row("Key revoked", "doomed")
	w.choose("Action", "Failed sign-ins")
	w.row("Sign-in failed", "127.0.0.1")
	w.miss("Key changed")
	w.choose("Action", "Keys")
	w.row("Key rotated", "turning")
	w.enter("User", "nobody")
	w.see("Nothing here")
	w.enter("User", testUser)
	w.row("Key rotated", "turning")
	if link := do[string](w.person, "link", "Export"); !strings.Contains(link, "/audit/export/?") || !strings.Contains(link, "action=key.") {
		t.Errorf("the export's link is %s", link)
	}
	w.call(t, "GET", "/api/users/auth/audit/export/?action=key.rotate&limit=1", "", http.StatusOK, nil)
}

// keyboard makes and revokes a key without the mouse.
func (w *walk) keyboard(t *testing.T) {
	w.open("/settings/api-keys")
	w.row("first")
	w.press("\t")
	if focused := w.focused(); focused != "Skip to content" {
		t.Errorf("the first stop is %q", focused)
	}
	w.tabTo(t, "Generate Key")
	w.press("\r")
	w.see("More options")
	w.typing("by-keyboard")
	w.press("\r")
	w.see("Save your key")
	if focused := w.focused(); focused != "Copy" {
		t.Errorf("the focus is at %q, want Copy", focused)
	}
	w.press(kb.Escape)
	w.see("Save your key") // what is shown once does not vanish by a slip
	w.tabTo(t, "I have saved it")
	w.press("\r")
	w.row("by-keyboard")
	if focused := w.focused(); focused != "Generate Key" && focused != "API Keys" {
		t.Errorf("after the dialog the focus is at %q", focused)
	}
	w.tabTo(t, "Actions for by-keyboard")
	w.press("\r")
	w.press(kb.End)
	if focused := w.focused(); focused != "Revoke…" {
		t.Errorf("the last action is %q", focused)
	}
	w.press(kb.Escape)
	if focused := w.focused(); focused != "Actions for by-keyboard" {
		t.Errorf("after the menu the focus is at %q", focused)
	}
	w.press("\r")
	w.press(kb.ArrowUp)
	w.press("\r")
	w.see("Type by-keyboard to confirm")
	w.typing("by-keyboard")
	w.press("\r")
	w.see("by-keyboard was revoked")
}

// tabTo presses the tab key until the focus is at a name.
func (w *walk) tabTo(t *testing.T, name string) {
	t.Helper()
	var seen []string
	for range 60 {
		w.press("\t")
		focused := w.focused()
		if focused == name {
			return
		}
		seen = append(seen, focused)
	}
	t.Fatalf("the tab key does not reach %q, but %q", name, seen)
}

func (w *walk) theme(t *testing.T) {
	w.colours("light")
	w.open("/settings/account")
	light := do[string](w.person, "background")
	w.click("Colours: as the system. Change")
	w.click("Colours: light. Change")
	dark := do[string](w.person, "background")
	if light == dark {
		t.Errorf("light and dark are both %s", light)
	}
	w.open("/settings/account")
	if again := do[string](w.person, "background"); again != dark {
		t.Errorf("after a reload the page is %s, want %s", again, dark)
	}
	w.click("Colours: dark. Change")
	w.colours("dark")
	if system := do[string](w.person, "background"); system != dark {
		t.Errorf("the system's dark is %s, want %s", system, dark)
	}
	w.colours("light")
}

const otherPassword = "another battery, also stapled"

func (w *walk) people(t *testing.T) {
	w.open("/settings/users")
	w.row(testUser, "Owner", "You")
	w.click("Invite user")
	w.enter("User name", "not a name")
	w.click("Make link")
	w.see("xpected")
	w.enter("User name", "grace")
	w.enter("E-mail (optional)", "grace@example.com")
	w.click("Make link")
	w.see("It works once")
	link := w.value("Invitation link")
	w.click("Done")
	w.row("grace", "Member", testUser)
	w.click("Invite user")
	w.enter("User name", "mallory")
	w.click("Make link")
	w.click("Done")
	w.click("Revoke the invitation of mallory")
	w.see("The invitation was revoked")
	w.miss("mallory")
	w.click("Account of " + testUser)
	w.click("Sign out")
	w.see("Sign in")

	_, fragment, found := strings.Cut(link, "/accept-invitation#")
	if !found {
		t.Fatal("the link leads elsewhere")
	}
	w.open("/accept-invitation#" + fragment)
	w.enter("New password", otherPassword)
	w.enter("New password again", otherPassword+"x")
	w.click("Create account")
	w.see("The two passwords differ.")
	w.enter("New password again", otherPassword)
	w.click("Create account")
	w.see("Welcome, grace", "No API keys yet")
	w.miss("Blocked")
	w.click("Account of grace")
	w.click("Sign out")
	w.see("Sign in")
	w.open("/accept-invitation#" + fragment)
	w.enter("New password", otherPassword)
	w.enter("New password again", otherPassword)
	w.click("Create account")
	w.see("This invitation was accepted or revoked, or has ended.")
	w.open("/accept-invitation")
	w.see("This link is incomplete")
}

func (w *walk) roles(t *testing.T) {
	w.signIn(testUser, testPassword)
	w.open("/settings/users")
	w.choose("Role of grace", "Viewer")
	w.see("grace is now viewer")
	w.click("Account of " + testUser)
	w.click("Sign out")
	w.signIn("grace", otherPassword)
	w.row("first", testUser)
	w.miss("Generate Key")
	w.openKey(t, "first")
	w.miss("Edit")
	w.see("Blocked", "Audit log")
	w.click("Account of grace")
	w.click("Sign out")
	w.signIn(testUser, testPassword)
	w.open("/settings/users")
	w.click("Remove grace")
	w.click("Remove user")
	w.see("grace was removed")
}

func (w *walk) account(t *testing.T) {
	w.open("/settings/account")
	w.row("This session", "127.0.0.1")
	w.click("Sign out all others")
	w.see("All other sessions have ended")
	token := w.token
	var err error
	if w.token, err = login(t.Context(), w.front, testUser, testPassword); err != nil || w.token == token {
		t.Fatalf("signing in again: %v", err)
	}
	w.enter("Current password", "not the password")
	w.enter("New password", otherPassword)
	w.click("Change password")
	w.see("assword")
	w.enter("Current password", testPassword)
	w.enter("New password", "short")
	w.click("Change password")
	w.see("Expected at least 12 characters")
	w.enter("New password", otherPassword)
	w.click("Change password")
	w.see("Password changed. All other sessions have ended.")
	w.call(t, "GET", "/api/users/auth/me/", "", http.StatusUnauthorized, nil)
}

func (w *walk) ended(t *testing.T) {
	var err error
	if w.token, err = login(t.Context(), w.front, testUser, otherPassword); err != nil {
		t.Fatal(err)
	}
	w.open("/settings/audit")
	w.call(t, "POST", "/api/users/auth/sessions/revoke-others/", "", http.StatusOK, nil)
	w.choose("Action", "Keys")
	w.see("Your session has ended. Sign in again.", "Password")
	w.enter("User name or e-mail", testUser)
	w.enter("Password", otherPassword)
	w.click("Sign in")
	w.see("Audit log", "Export")
}

func (w *walk) unreachable(t *testing.T) {
	w.open("/settings/api-keys")
	w.row("first")
	w.offline(true)
	w.click("Audit log")
	w.see("The server cannot be reached.")
	w.offline(false)
	w.click("Try again")
	w.see("Every sign-in")
	_, _ = w.complaints() // that the network failed
}
