package admin_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/usage"
	"github.com/tokenkithq/authz/usage/usagefile"
)

// newRecorder counts calls in a file of its own.
func newRecorder(t *testing.T) *usage.Recorder {
	t.Helper()
	file, err := usagefile.Open(t.Context(), t.TempDir()+"/usage.db", usagefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	recorder, err := usage.New(t.Context(), usage.Options{Journal: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return recorder
}

// limitOf says the same of every key that has a limit.
type limitOf struct {
	remaining uint32
	returns   time.Duration
}

func (l limitOf) LimitState(key *apikey.Key, _ time.Time) admin.LimitState {
	if key.RateLimitPerHour == 0 {
		return admin.LimitState{}
	}
	return admin.LimitState{Limit: key.RateLimitPerHour, Remaining: l.remaining, Returns: l.returns}
}

func TestUsage(t *testing.T) {
	recorder := newRecorder(t)
	h := newHarness(t, func(o *admin.Options) { o.Usage = recorder })
	token := h.login("ada", adaPassword)
	h.createKey(token, `{"name":"x"}`)
	now := h.clock.now()
	recorder.Record(1, apikey.ReasonAllowed, now)
	recorder.Record(1, apikey.ReasonAllowed, now.Add(-2*time.Hour))
	recorder.Record(1, apikey.ReasonRateLimit, now)
	recorder.Record(1, apikey.ReasonExpired, now)
	get := func(query string) (series admin.UsageSeries) {
		t.Helper()
		h.do(request{method: "GET", path: onKey(1, "usage/"+query), token: token}).want(200, "").decode(&series)
		return series
	}
	for _, c := range []struct {
		query, resolution string
		points            int
	}{{"", "hour", 24}, {"?resolution=minute", "minute", 60}, {"?resolution=day", "day", 30}} {
		series := get(c.query)
		if series.Resolution != c.resolution || len(series.Points) != c.points {
			t.Errorf("%s: %d points by the %s", c.query, len(series.Points), series.Resolution)
			continue
		}
		last := series.Points[len(series.Points)-1]
		if last.Limited != 1 || last.State != 1 || last.Time.After(now) {
			t.Errorf("%s: the present period has %+v", c.query, last)
		}
	}
	if series := get("?from=2026-03-01T10:00:00Z&to=2026-03-01T12:00:00%2B00:00"); len(series.Points) != 2 || series.Points[0].Allowed != 1 || series.Points[1].Allowed != 0 {
		t.Errorf("got %+v", series)
	}
	for query, location := range map[string]string{
		"?resolution=week": "query.resolution", "?from=yesterday": "query.from", "?to=": "query.to",
		"?from=2026-03-01T12:00:00Z&to=2026-03-01T11:00:00Z": "query.to", "?resolution=minute&from=2026-01-01T00:00:00Z": "query.from",
	} {
		p := h.do(request{method: "GET", path: onKey(1, "usage/"+query), token: token}).want(422, "invalid_request").problem()
		if p.Errors[0].Location != location {
			t.Errorf("%s: got %+v", query, p.Errors)
		}
	}
	bob := h.login("bob", bobPassword)
	h.do(request{method: "GET", path: onKey(1, "usage/"), token: bob}).want(404, "not_found")
	const totals = "/api/users/auth/usage/"
	if all := h.do(request{method: "GET", path: totals + "?key_id=1", token: bob}).want(200, ""); strings.TrimSpace(all.body) != "[]" {
		t.Errorf("bob sees what ada's key did: %s", all.body)
	}
	h.createKey(bob, `{"name":"y"}`)
	var all []admin.KeyUsage
	h.do(request{method: "GET", path: totals + "?key_id=2&key_id=1&key_id=99", token: token}).want(200, "").decode(&all)
	if len(all) != 2 || all[0].KeyID != 2 || len(all[0].Points) != 24 || all[1].Points[23].Allowed != 1 || all[1].Points[21].Allowed != 1 {
		t.Errorf("got %+v", all)
	}
	h.do(request{method: "GET", path: totals, token: token}).want(422, "invalid_request")
	h.do(request{method: "GET", path: totals + "?" + strings.Repeat("key_id=1&", 101), token: token}).want(422, "invalid_request")
}

// Without what counts, the calls that show counts say so.
func TestWithoutUsage(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	h.createKey(token, `{"name":"x"}`)
	for _, path := range []string{onKey(1, "usage/"), onKey(1, "limit/"), "/api/users/auth/usage/?key_id=1", "/api/users/auth/blocked/"} {
		h.do(request{method: "GET", path: path, token: token}).want(501, "not_implemented")
	}
}

func TestLimit(t *testing.T) {
	limits := &limitOf{remaining: 3, returns: 90 * time.Second}
	h := newHarness(t, func(o *admin.Options) { o.Limits = limits })
	token := h.login("ada", adaPassword)
	h.createKey(token, `{"name":"limited","rate_limit_per_hour":5}`)
	h.createKey(token, `{"name":"free"}`)
	for id, want := range map[apikey.KeyID]string{
		1: `{"limit":5,"used":2,"remaining":3,"resets_at":"2026-03-01T12:01:30Z"}`,
		2: `{"limit":null,"used":null,"remaining":null,"resets_at":null}`,
	} {
		if got := h.do(request{method: "GET", path: onKey(id, "limit/"), token: token}).want(200, ""); strings.TrimSpace(got.body) != want {
			t.Errorf("got %s, want %s", got.body, want)
		}
	}
	h.do(request{method: "GET", path: onKey(1, "limit/"), token: h.login("bob", bobPassword)}).want(404, "not_found")
}

func TestExplain(t *testing.T) {
	limits := &limitOf{remaining: 3}
	blocked := blockList{}
	h := newHarness(t, func(o *admin.Options) { o.Limits, o.Blocks, o.LimitStatus = limits, blocked, 429 })
	token := h.login("ada", adaPassword)
	h.createKey(token, `{"name":"x","allowed_origins":["https://a.example"],"allowed_ips":["203.0.113.0/24"],"scopes":["GET /v1/","reports:read"],
		"rate_limit_per_hour":5,"expires_at":"2026-03-02T12:00:00Z"}`)
	explain := func(body string) (e admin.Explanation) {
		t.Helper()
		h.do(request{path: onKey(1, "explain/"), body: body, token: token}).want(200, "").decode(&e)
		if e.Allowed != (e.Status == 200) || e.Allowed != (e.Reason == "allowed") {
			t.Errorf("%s: got %+v", body, e)
		}
		return e
	}
	outcomes := func(e admin.Explanation) string {
		var text []string
		for _, step := range e.Steps {
			text = append(text, step.Rule+":"+step.Outcome)
			if step.Detail == "" {
				t.Errorf("%s says nothing", step.Rule)
			}
		}
		return strings.Join(text, " ")
	}
	for _, c := range []struct {
		name, body, want, reason string
		status                   int
	}{
		{"from a page", `{"path":"/v1/x","origin":"https://a.example","ip":"198.51.100.1"}`,
			"block:pass state:pass expiry:pass origin:pass address:skip scope:pass limit:pass", "allowed", 200},
		{"from a server", `{"path":"/v1/x","ip":"203.0.113.9"}`,
			"block:pass state:pass expiry:pass origin:skip address:pass scope:pass limit:pass", "allowed", 200},
		{"another origin and method", `{"method":"POST","path":"/v1/x","origin":"https://b.example"}`,
			"block:skip state:pass expiry:pass origin:fail address:skip scope:fail limit:pass", "origin_not_allowed", 403},
		{"no address", `{"path":"/v1/x"}`, "block:skip state:pass expiry:pass origin:skip address:fail scope:pass limit:pass", "address_not_allowed", 403},
		{"another path", `{"ip":"203.0.113.9","path":"/v2/"}`, "block:pass state:pass expiry:pass origin:skip address:pass scope:fail limit:pass", "scope_not_allowed", 403},
		{"a scope", `{"ip":"203.0.113.9","path":"/v1/","scope":"reports:write"}`, "block:pass state:pass expiry:pass origin:skip address:pass scope:fail limit:pass", "scope_not_allowed", 403},
		{"an empty origin", `{"origin":"","path":"/v1/"}`, "block:skip state:pass expiry:pass origin:fail address:skip scope:pass limit:pass", "origin_not_allowed", 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e := explain(c.body); outcomes(e) != c.want || e.Reason != c.reason || e.Status != c.status {
				t.Errorf("got %s %s %d\nwant %s", outcomes(e), e.Reason, e.Status, c.want)
			}
		})
	}
	good := `{"path":"/v1/x","ip":"203.0.113.9"}`
	limits.remaining = 0
	if e := explain(good); e.Reason != "rate_limited" || e.Status != 429 || *e.Limit.Remaining != 0 {
		t.Errorf("spent: %+v", e)
	}
	h.do(request{method: "PATCH", path: onKey(1, ""), body: `{"enabled":false}`, token: token}).want(200, "")
	if e := explain(good); e.Reason != "key_disabled" || e.Status != 403 {
		t.Errorf("paused: %+v", e)
	}
	h.do(request{method: "PATCH", path: onKey(1, ""), body: `{"enabled":true}`, token: token}).want(200, "")
	h.clock.advance(48 * time.Hour)
	token = h.login("ada", adaPassword)
	if e := explain(good); e.Reason != "key_expired" || e.Status != 401 {
		t.Errorf("expired: %+v", e)
	}
	prefix := netip.MustParsePrefix("203.0.113.9/32")
	blocked[prefix] = admin.Block{Prefix: prefix, Until: h.clock.now().Add(time.Minute)}
	if e := explain(good); e.Reason != "address_blocked" || e.Status != 403 {
		t.Errorf("blocked: %+v", e)
	}
	for _, body := range []string{`{"path":"x"}`, `{"ip":"x"}`, `{"ip":"fe80::1%eth0"}`, `{"scope":"NO"}`, `{"x":1}`} {
		h.do(request{path: onKey(1, "explain/"), body: body, token: token}).want(422, "invalid_request")
	}
}

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
		"?action=key.": "key.rotate key.update key.create", "?action=login.fail&limit=1": "login.fail", "?target=key&target_id=1&actor=bob": "key.rotate key.create",
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
	for range store.MaxEvents + 5 {
		if err := h.store.AppendEvent(t.Context(), &store.Event{Action: "test.event"}); err != nil {
			t.Fatal(err)
		}
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
