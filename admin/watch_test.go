package admin_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
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
