package admin_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/store"
	"golang.org/x/sync/errgroup"
)

// Everything that is done is in the audit log, and only those see it who may.
func TestAudit(t *testing.T) {
	h := newHarness(t, nil)
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	h.do(request{path: loginPath, body: loginBody("ada", "a wrong password"), from: "203.0.113.5:1"}).want(401, "")
	h.do(request{path: loginPath, body: loginBody("canary-nobody", "a wrong password"), from: "203.0.113.5:1"}).want(401, "")
	h.createKey(bob, `{"name":"of bob"}`)
	h.do(request{method: "PATCH", path: onKey(1, ""), body: `{"rate_limit_per_hour":5,"enabled":false}`, token: ada}).want(200, "")
	h.do(request{path: onKey(1, "rotate/"), body: `{}`, token: bob}).want(200, "")
	const path = "/api/users/auth/audit/"
	list := func(token, query string) (events []admin.AuditEvent, r *response) {
		t.Helper()
		r = h.do(request{method: "GET", path: path + query, token: token}).want(200, "")
		r.decode(&events)
		return events, r
	}
	actions := func(events []admin.AuditEvent) string {
		var text []string
		for _, e := range events {
			text = append(text, e.Action)
		}
		return strings.Join(text, " ")
	}
	all, r := list(ada, "")
	want := "key.rotate key.update key.create login.fail login.fail session.create session.create user.create user.create"
	if actions(all) != want {
		t.Errorf("got %s\nwant %s", actions(all), want)
	}
	if strings.Contains(r.body, "canary-nobody") {
		t.Error("a name that is nobody's is told")
	}
	if e := all[1]; e.Actor.Name != "ada" || e.Actor.UserID != 1 || e.Actor.Address != "127.0.0.1" || e.Actor.Kind != "user" || e.Target.ID != 1 ||
		!strings.Contains(r.body, `{"field":"rate_limit_per_hour","from":null,"to":5}`) || !strings.Contains(r.body, `{"field":"enabled","from":true,"to":false}`) {
		t.Errorf("got %+v in %s", e, r.body)
	}
	if e := all[4]; e.Target.Name != "ada" || e.Actor.UserID != 0 || e.Actor.Address != "203.0.113.5" {
		t.Errorf("the failed login is %+v", e)
	}
	if all[8].Actor.Kind != "operator" {
		t.Errorf("the first event is %+v", all[8])
	}
	for query, want := range map[string]string{
		"?action=key.": "key.rotate key.update key.create", "?action=login.fail&limit=1": "login.fail", "?target=key&target_id=1&actor=Bob": "key.rotate key.create",
		"?from=2026-03-01T12:00:01Z": "", "?to=2026-03-01T12:00:01Z&target=user&action=user": "user.create user.create",
	} {
		if events, _ := list(ada, query); actions(events) != want {
			t.Errorf("%s: got %s, want %s", query, actions(events), want)
		}
	}
	page, r := list(ada, "?limit=2")
	if link := fmt.Sprintf(`<%s?before=%d&limit=2>; rel="next"`, path, page[1].ID); r.header.Get("Link") != link {
		t.Errorf("Link is %s, want %s", r.header.Get("Link"), link)
	}
	if events, _ := list(bob, ""); actions(events) != "key.rotate key.create session.create" {
		t.Errorf("bob sees %s", actions(events))
	}
	if events, _ := list(bob, "?target=key&target_id=1"); actions(events) != "key.rotate key.update key.create" {
		t.Errorf("of his key bob sees %s", actions(events))
	}
	other := h.createKey(ada, `{"name":"of ada"}`)
	h.do(request{method: "GET", path: fmt.Sprintf("%s?target=key&target_id=%d", path, other.ID), token: bob}).want(404, "not_found")
	h.do(request{method: "GET", path: path + "?target_id=1", token: ada}).want(422, "invalid_request")
	h.do(request{method: "GET", path: path + "export/", token: bob}).want(403, "forbidden")
	export := h.do(request{method: "GET", path: path + "export/?action=key.", token: ada}).want(200, "")
	if media := export.header.Get("Content-Type"); media != "application/jsonl" || strings.Count(export.body, "\n") != 4 {
		t.Errorf("%s: %s", media, export.body)
	}
}

// An export goes on beyond what one page of the store holds.
func TestExportIsWhole(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	// At a time, since the store confirms them together.
	var events errgroup.Group
	events.SetLimit(200)
	for range store.MaxEvents + 5 {
		events.Go(func() error { return h.store.AppendEvent(t.Context(), &store.Event{Action: "test.event"}) })
	}
	if err := events.Wait(); err != nil {
		t.Fatal(err)
	}
	export := h.do(request{method: "GET", path: "/api/users/auth/audit/export/?action=test.", token: token}).want(200, "")
	if n := strings.Count(export.body, "\n"); n != store.MaxEvents+5 {
		t.Errorf("%d lines", n)
	}
	export = h.do(request{method: "GET", path: "/api/users/auth/audit/export/?action=test.&limit=7", token: token}).want(200, "")
	if n := strings.Count(export.body, "\n"); n != 7 {
		t.Errorf("%d lines, want 7", n)
	}
}
