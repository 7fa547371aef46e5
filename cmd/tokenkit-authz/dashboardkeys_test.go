package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// keyDetail is what the API tells of a key.
type keyDetail struct {
	Name             string
	AllowedOrigins   []string `json:"allowed_origins"`
	AllowedIPs       []string `json:"allowed_ips"`
	RateLimitPerHour *int     `json:"rate_limit_per_hour"`
	Strict           bool
	Scopes           []string
	Notes            string
	Metadata         map[string]string
	ExpiresAt        *string `json:"expires_at"`
	Hint             string
}

func (w *walk) detail(t *testing.T, name string) keyDetail {
	t.Helper()
	var detail keyDetail
	w.call(t, "GET", fmt.Sprintf("/api/users/auth/api-keys/%d/", w.id(t, name)), "", http.StatusOK, &detail)
	return detail
}

func (w *walk) everyOption(t *testing.T) {
	w.open("/settings/api-keys")
	w.click("Generate Key")
	w.enter("Name", "every-option")
	w.enter("Allowed origins", "https://app.example.io\nhttps://*.example.io")
	w.enter("Allowed IPs", "203.0.113.10\n198.51.100.0/24")
	w.enter("Calls per hour", "5000")
	w.click("More options")
	w.click("Check both lists on every request")
	w.choose("Expires", "In 30 days")
	w.enter("Scopes", "GET,HEAD /api/tokens/\nreports:read")
	w.enter("Notes", "For the shop.\nAsk Ada.")
	w.click("Add entry")
	w.enter("Metadata name", "plan")
	w.enter("Metadata value", "pro")
	w.click("Create key")
	w.shown(t)
	w.row("every-option", "5,000")
	d := w.detail(t, "every-option")
	got := fmt.Sprintln(d.AllowedOrigins, d.AllowedIPs, *d.RateLimitPerHour, d.Strict, d.Scopes, d.Notes, d.Metadata, d.ExpiresAt != nil)
	want := "[https://app.example.io https://*.example.io] [203.0.113.10 198.51.100.0/24] 5000 true [GET,HEAD /api/tokens/ reports:read] For the shop.\nAsk Ada. map[plan:pro] true\n"
	if got != want {
		t.Errorf("made %s\nwant %s", got, want)
	}
	w.openKey(t, "every-option")
	w.see("https://*.example.io", "198.51.100.0/24", "Both lists on every request", "plan: pro", "Ask Ada.", "reports:read", "Key created")
}

func (w *walk) mistakes(t *testing.T) {
	w.open("/settings/api-keys")
	w.click("Generate Key")
	w.enter("Name", "mistaken")
	w.enter("Allowed IPs", "203.0.113.10\nnot-an-address")
	w.click("Create key")
	w.see("Entry 2: expected an IPv4 or IPv6 address")
	if focused := w.focused(); focused != "Allowed IPs" {
		t.Errorf("the focus is at %q, not at the field at fault", focused)
	}
	w.enter("Allowed IPs", "203.0.113.10")
	w.enter("Calls per hour", "0")
	w.click("Create key")
	w.see("Expected an integer from 1")
	w.miss("Entry 2")
	w.enter("Calls per hour", "10")
	w.click("Create key")
	w.shown(t)
	w.row("mistaken", "IPs can be skipped")
}

func (w *walk) warnings(t *testing.T) {
	w.openKey(t, "mistaken")
	w.see("IPs can be skipped. A request with an Origin header")
	w.click("Edit settings")
	w.click("Check both lists on every request")
	w.click("Save changes")
	w.see("Changes saved")
	w.miss("IPs can be skipped")
	if !w.detail(t, "mistaken").Strict {
		t.Error("the key is not strict")
	}
}

func (w *walk) search(t *testing.T) {
	var batch []string
	var made []createdKey
	for i := range 30 {
		batch = append(batch, fmt.Sprintf(`{"name": "batch-%02d", "notes": "number %d", "allowed_origins": ["https://app.example.io"]}`, i, i))
	}
	w.call(t, "POST", "/api/users/auth/api-keys/batch-create/", `{"keys": [`+strings.Join(batch, ",")+`]}`, http.StatusCreated, &made)
	defer func() {
		var ids []string
		for _, key := range made {
			ids = append(ids, fmt.Sprint(key.ID))
		}
		w.call(t, "POST", "/api/users/auth/api-keys/batch-delete/", `{"key_ids": [`+strings.Join(ids, ",")+`]}`, http.StatusOK, nil)
	}()
	w.open("/settings/api-keys")
	w.row("batch-29")
	w.see("1–25 of 33 keys")
	w.click("Next")
	w.row("batch-04")
	w.see("26–33 of 33 keys")
	w.click("Previous")
	w.row("batch-29")
	w.enter("Search keys", "number 17")
	w.miss("batch-29")
	w.row("batch-17")
	w.see("1 key")
	w.open("/settings/api-keys?search=BATCH-0")
	w.see("10 keys")
	w.enter("Search keys", "nothing like it")
	w.see("No key matches")
	w.click("Clear filters")
	w.row("batch-29")
	w.choose("State", "Paused")
	w.see("No key matches")
	w.choose("State", "Never used")
	w.row("batch-29", "Never")
	w.choose("Owner", "My keys")
	w.row("batch-29")
}

// markup shows what others may have written everywhere that it is shown.
func (w *walk) markup(t *testing.T) {
	const name = `<img src=x onerror=alert(1)>`
	key := w.createKey(t, `{"name": "`+name+`", "notes": "<script>alert(2)</script>", "metadata": {"plan": "<b>pro</b>"}}`)
	w.open("/settings/api-keys")
	w.row(name)
	w.open(fmt.Sprintf("/settings/api-keys/%d", key.ID))
	w.see(name, "<script>alert(2)</script>", "plan: <b>pro</b>")
	w.click("Actions for " + name)
	w.click("Revoke…")
	w.enter("Type "+name+" to confirm", name)
	w.click("Revoke key")
	w.see(name + " was revoked")
	w.open("/settings/audit")
	w.row("Key revoked", name)
}

func (w *walk) usage(t *testing.T) {
	key := w.createKey(t, `{"name": "busy", "allowed_origins": ["https://app.example.io"], "rate_limit_per_hour": 5}`)
	w.openKey(t, "busy")
	w.see("5 of 5 calls left", "No calls in this time")
	for range 3 {
		w.status(t, key.Key)
	}
	w.see("2 of 5 calls left") // by itself, within seconds
	for range 4 {
		w.status(t, key.Key)
	}
	w.see("0 calls left", "Next call possible")
	w.openKey(t, "busy")
	w.see("Allowed 5", "Rate limited 2")
	w.click("Hour")
	w.see("Allowed 5")
	w.click("Month")
	w.see("Allowed 5")
	w.click("Show as a table")
	w.row("5", "2")
	w.open("/settings/api-keys?search=busy")
	w.row("busy", "5 of 5", "7")
}

func (w *walk) explain(t *testing.T) {
	w.openKey(t, "every-option")
	w.enter("Path", "/api/tokens/?common=true")
	w.enter("Origin", "https://evil.example")
	w.enter("IP address", "203.0.113.10")
	w.click("Test request")
	w.see("Denied with 403", "origin_not_allowed", "Allowed origins fails")
	w.enter("Origin", "https://shop.example.io")
	w.click("Test request")
	w.see("Allowed", "Allowed origins passes", "Allowed IPs passes", "Scopes passes")
	w.choose("Method", "DELETE")
	w.click("Test request")
	w.see("scope_not_allowed", "Scopes fails")
	w.enter("IP address", "203.0.113")
	w.click("Test request")
	w.see("xpected")
}

func (w *walk) edit(t *testing.T) {
	w.openKey(t, "every-option")
	w.click("Edit")
	w.enter("Name", "renamed")
	w.enter("Calls per hour", "")
	w.choose("Expires", "Never")
	w.click("Remove entry")
	w.click("Save changes")
	w.see("renamed", "No limit", "Key changed")
	w.miss("every-option of")
	d := w.detail(t, "renamed")
	if d.RateLimitPerHour != nil || d.ExpiresAt != nil || len(d.Metadata) != 0 || len(d.AllowedIPs) != 2 || d.Notes == "" {
		t.Errorf("the key is now %+v", d)
	}
}

func (w *walk) pause(t *testing.T) {
	key := w.createKey(t, `{"name": "pausable", "allowed_origins": ["https://app.example.io"]}`)
	w.open("/settings/api-keys?search=pausable")
	w.click("Actions for pausable")
	w.click("Pause")
	w.row("pausable", "Paused")
	if status := w.status(t, key.Key); status != http.StatusForbidden {
		t.Errorf("a paused key gets %d", status)
	}
	w.openKey(t, "pausable")
	w.see("This key is paused")
	w.click("Actions for pausable")
	w.click("Enable")
	w.miss("This key is paused")
	if status := w.status(t, key.Key); status != http.StatusOK {
		t.Errorf("an enabled key gets %d", status)
	}
}

func (w *walk) rotate(t *testing.T) {
	old := w.createKey(t, `{"name": "turning", "allowed_origins": ["https://app.example.io"], "rate_limit_per_hour": 4}`)
	w.openKey(t, "turning")
	w.click("Actions for turning")
	w.click("Rotate…")
	w.click("1 hour")
	w.click("Rotate key")
	next := w.shown(t)
	w.see("still works until", "Rotating", "Key rotated")
	for i, key := range []string{old.Key, next, old.Key, next} {
		if status := w.status(t, key); status != http.StatusOK {
			t.Errorf("call %d gets %d", i, status)
		}
	}
	if status := w.status(t, old.Key); status == http.StatusOK {
		t.Error("old and new value do not share one limit")
	}
	w.click("Actions for turning")
	w.click("Rotate…")
	w.click("Now: it stops at once")
	w.click("Rotate key")
	w.shown(t)
	w.miss("still works until")
	if status := w.status(t, next); status != http.StatusUnauthorized {
		t.Errorf("the value before gets %d", status)
	}
	w.click("Actions for turning")
	w.click("Rotate…")
	w.click("Another time…")
	w.see("The old value works until")
	w.click("Cancel")
}

func (w *walk) revoke(t *testing.T) {
	key := w.createKey(t, `{"name": "doomed", "allowed_origins": ["https://app.example.io"]}`)
	id := w.id(t, "doomed")
	w.openKey(t, "doomed")
	w.click("Actions for doomed")
	w.click("Revoke…")
	w.enter("Type doomed to confirm", "doome")
	if !do[bool](w.person, "disabled", "Revoke key") {
		t.Error("a wrong name is enough to revoke")
	}
	w.typing("doomed")
	w.enter("Type doomed to confirm", "doomed")
	w.click("Revoke key")
	w.see("doomed was revoked", "API Keys")
	if status := w.status(t, key.Key); status != http.StatusUnauthorized {
		t.Errorf("a revoked key gets %d", status)
	}
	w.open(fmt.Sprintf("/settings/api-keys/%d", id))
	w.see("Not found")
	w.click("Back to API Keys")
	w.see("Generate Key")
}
