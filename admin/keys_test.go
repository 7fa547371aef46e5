package admin_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

const keyPath = "/api/users/auth/api-keys/{key_id}/"

func onKey(id apikey.KeyID, operation string) string {
	return fmt.Sprintf("%s%d/%s", listPath, id, operation)
}

// setRole gives a user of the harness a role.
func (h *harness) setRole(id apikey.UserID, role store.Role) {
	h.t.Helper()
	_, err := h.store.UpdateUser(h.t.Context(), id, func(user *store.User) error { user.Role = role; return nil }, store.Actor{})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) createKey(token, body string) admin.CreatedKey {
	h.t.Helper()
	var created admin.CreatedKey
	h.do(request{path: createPath, body: body, token: token}).want(201, "").decode(&created)
	return created
}

// A key is made with every field, and shown with them.
func TestKeyWithAllFields(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	created := h.createKey(token, `{"name":"x","expires_at":"2026-04-01T14:00:00.1234567+02:00","notes":"two\nlines",
		"metadata":{"team":"pay","tier":"gold"},"scopes":["GET,HEAD /v1/","reports:read"],"allowed_ips":["203.0.113.7"]}`)
	shown := h.do(request{method: "GET", path: onKey(created.ID, ""), token: token}).want(200, "")
	for _, part := range []string{
		`"expires_at":"2026-04-01T12:00:00.123456Z"`, `"notes":"two\nlines"`, `"metadata":{"team":"pay","tier":"gold"}`,
		`"scopes":["GET,HEAD /v1/","reports:read"]`, `"enabled":true`, `"state":"active"`, `"updated_at":null`,
		`"warnings":[{"code":"origin_skips_addresses",`, `"previous_expires_at":null`,
	} {
		if !strings.Contains(shown.body, part) {
			t.Errorf("no %s in %s", part, shown.body)
		}
	}
	if strings.Contains(shown.body, created.Key) {
		t.Error("the key itself is shown again")
	}
	for name, c := range map[string]struct{ body, location string }{
		"past expiry":    {`{"name":"x","expires_at":"2026-03-01T12:00:00Z"}`, "body.expires_at"},
		"endless expiry": {`{"name":"x","expires_at":"9999-12-31T23:59:59-12:00"}`, "body.expires_at"},
		"no time":        {`{"name":"x","expires_at":"tomorrow"}`, "body.expires_at"},
		"metadata name":  {`{"name":"x","metadata":{"Team":"x"}}`, "body.metadata"},
		"long name":      {`{"name":"x","metadata":{"` + strings.Repeat("x", 10_000) + `":"x"}}`, "body.metadata"},
		"metadata value": {`{"name":"x","metadata":{"team":"a\nb"}}`, "body.metadata.team"},
		"metadata type":  {`{"name":"x","metadata":{"team":1}}`, "body.metadata.team"},
		"scope":          {`{"name":"x","scopes":["/v1/","/v1/../x"]}`, "body.scopes[1]"},
		"notes":          {`{"name":"x","notes":"a\u0007"}`, "body.notes"},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			p := h.do(request{path: createPath, body: c.body, token: token}).want(422, "invalid_request").problem()
			if len(p.Errors) != 1 || p.Errors[0].Location != c.location || len(p.Errors[0].Message) > 310 {
				t.Errorf("got %+v, want %s", p.Errors, c.location)
			}
		})
	}
}

// Of a change, absent fields stay, null clears, and values are set.
func TestChangeKey(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	full := `{"name":"x","allowed_origins":["https://a.example"],"allowed_ips":["203.0.113.7"],"rate_limit_per_hour":5,
		"expires_at":"2026-04-01T12:00:00Z","notes":"n","metadata":{"team":"pay"},"scopes":["/v1/"]}`
	for name, c := range map[string]struct{ body, want string }{
		"nothing":    {`{}`, `{}`},
		"name":       {`{"name":"y"}`, `{"name":"y"}`},
		"origins":    {`{"allowed_origins":["b.example"]}`, `{"allowed_origins":["b.example"]}`},
		"no origins": {`{"allowed_origins":null}`, `{"allowed_origins":[]}`},
		"addresses":  {`{"allowed_ips":["10.0.0.0/8"]}`, `{"allowed_ips":["10.0.0.0/8"]}`},
		"no address": {`{"allowed_ips":[]}`, `{"allowed_ips":[]}`},
		"limit":      {`{"rate_limit_per_hour":7}`, `{"rate_limit_per_hour":7}`},
		"no limit":   {`{"rate_limit_per_hour":null}`, `{"rate_limit_per_hour":null}`},
		"strict":     {`{"strict":true}`, `{"strict":true}`},
		"paused":     {`{"enabled":false}`, `{"enabled":false,"state":"paused"}`},
		"expiry":     {`{"expires_at":"2026-05-01T12:00:00Z"}`, `{"expires_at":"2026-05-01T12:00:00Z"}`},
		"no expiry":  {`{"expires_at":null}`, `{"expires_at":null}`},
		"notes":      {`{"notes":"m"}`, `{"notes":"m"}`},
		"no notes":   {`{"notes":null}`, `{"notes":""}`},
		"scopes":     {`{"scopes":["a:b"]}`, `{"scopes":["a:b"]}`},
		"no scopes":  {`{"scopes":null}`, `{"scopes":[]}`},
		"metadata":   {`{"metadata":{"x":"y"}}`, `{"metadata":{"x":"y"}}`},
		"none":       {`{"metadata":null}`, `{"metadata":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			created := h.createKey(token, full)
			var want, got map[string]any
			h.do(request{method: "GET", path: onKey(created.ID, ""), token: token}).want(200, "").decode(&want)
			if err := json.Unmarshal([]byte(c.want), &want); err != nil {
				t.Fatal(err)
			}
			// Maps are merged by Unmarshal, and metadata is not.
			if values, found := want["metadata"].(map[string]any); found && strings.Contains(c.want, "metadata") {
				delete(values, "team")
			}
			h.do(request{method: "PATCH", path: onKey(created.ID, ""), body: c.body, token: token}).want(200, "").decode(&got)
			if c.body != "{}" {
				if got["updated_at"] == nil {
					t.Error("no time of the change")
				}
				want["updated_at"] = got["updated_at"]
			}
			want["warnings"] = got["warnings"]
			if gotText, wantText := fmt.Sprint(got), fmt.Sprint(want); gotText != wantText {
				t.Errorf("got  %s\nwant %s", gotText, wantText)
			}
			var again map[string]any
			h.do(request{method: "GET", path: onKey(created.ID, ""), token: token}).want(200, "").decode(&again)
			if fmt.Sprint(again) != fmt.Sprint(got) {
				t.Errorf("then shown: %v", again)
			}
		})
	}
	created := h.createKey(token, full)
	for body, location := range map[string]string{
		`{"name":null}`: "body.name", `{"name":" "}`: "body.name", `{"strict":null}`: "body.strict", `{"enabled":null}`: "body.enabled",
		`{"rate_limit_per_hour":0}`: "body.rate_limit_per_hour", `{"allowed_ips":["x"]}`: "body.allowed_ips[0]", `{"domain":"x"}`: "body.domain",
		`{"expires_at":"2020-01-01T00:00:00Z"}`: "body.expires_at", `{"owner":"bob"}`: "body.owner", `{"id":5}`: "body.id",
	} {
		p := h.do(request{method: "PATCH", path: onKey(created.ID, ""), body: body, token: token}).want(422, "invalid_request").problem()
		if p.Errors[0].Location != location {
			t.Errorf("%s: got %+v", body, p.Errors)
		}
	}
	if shown := h.do(request{method: "GET", path: onKey(created.ID, ""), token: token}); !strings.Contains(shown.body, `"updated_at":null`) {
		t.Errorf("a refused change changed %s", shown.body)
	}
}

// Both values of a rotated key find the same key until the grace ends.
func TestRotateKey(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	answers := func(value string) bool {
		secret, err := apikey.ParseSecret(value)
		if err != nil {
			t.Fatal(err)
		}
		hash := secret.Hash()
		key, err := h.store.FindKey(t.Context(), hash)
		return err == nil && key.ID == 1 && key.Answers(&hash, h.clock.now())
	}
	first := h.createKey(token, `{"name":"x"}`)
	rotate := func(body string) (rotated admin.CreatedKey) {
		t.Helper()
		h.do(request{path: onKey(1, "rotate/"), body: body, token: token}).want(200, "").decode(&rotated)
		return rotated
	}
	second := rotate(`{}`)
	if second.ID != 1 || second.Key == first.Key || second.PreviousHint != first.Hint || second.PreviousExpiresAt == nil ||
		!second.PreviousExpiresAt.Equal(h.clock.now().Add(24*time.Hour)) {
		t.Fatalf("got %+v", second)
	}
	h.clock.advance(time.Hour)
	third := rotate(`{"grace_seconds":60}`)
	if answers(first.Key) || !answers(second.Key) || !answers(third.Key) {
		t.Error("after the second rotation another value than the last two works, or one of them does not")
	}
	h.clock.advance(time.Minute)
	if answers(second.Key) || !answers(third.Key) {
		t.Error("after the grace the value before works, or the present one does not")
	}
	if shown := h.do(request{method: "GET", path: onKey(1, ""), token: token}); !strings.Contains(shown.body, `"previous_hint":"","previous_expires_at":null`) {
		t.Errorf("an ended value is shown: %s", shown.body)
	}
	fourth := rotate(`{"grace_seconds":0}`)
	if answers(third.Key) || !answers(fourth.Key) || fourth.PreviousExpiresAt != nil {
		t.Error("without grace the value before works")
	}
	for _, body := range []string{`{"grace_seconds":-1}`, `{"grace_seconds":2592001}`, `{"grace_seconds":null}`, `{"grace":1}`} {
		h.do(request{path: onKey(1, "rotate/"), body: body, token: token}).want(422, "invalid_request")
	}
}

func TestSearchKeys(t *testing.T) {
	h := newHarness(t, nil)
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	for i := range 5 {
		h.createKey(bob, fmt.Sprintf(`{"name":"bob %d"}`, i))
	}
	h.createKey(ada, `{"name":"Ada's"}`)
	h.do(request{method: "PATCH", path: onKey(2, ""), body: `{"enabled":false}`, token: bob}).want(200, "")
	// A space is in no hint, which is random.
	list := func(token, query string) (ids string, r *response) {
		t.Helper()
		var keys []admin.Key
		r = h.do(request{method: "GET", path: listPath + query, token: token}).want(200, "")
		r.decode(&keys)
		for _, key := range keys {
			ids += fmt.Sprint(key.ID, " ")
		}
		return strings.TrimSpace(ids), r
	}
	for _, c := range []struct{ name, token, query, want, total, link string }{
		{"own", bob, "", "1 2 3 4 5", "5", ""},
		{"own by name", bob, "?owner=BOB", "5 4 3 2 1", "5", ""},
		{"a page", bob, "?limit=2", "5 4", "5", `</api/users/auth/api-keys/?after=4&limit=2>; rel="next"`},
		{"the next page", bob, "?after=4&limit=2", "3 2", "5", `</api/users/auth/api-keys/?after=2&limit=2>; rel="next"`},
		{"the last page", bob, "?after=2&limit=2", "1", "5", ""},
		{"search", bob, "?search=BOB%203", "4", "1", ""},
		{"search of an id", bob, "?search=%233", "3", "1", ""},
		{"state", bob, "?state=paused", "2", "1", ""},
		{"search only own", ada, "?search=bob+", "", "0", ""}, // ada is owner, and sees her own unless told otherwise
		{"all", ada, "?owner=*&limit=1&search=bob+", "5", "5", `</api/users/auth/api-keys/?after=5&limit=1&owner=%2A&search=bob+>; rel="next"`},
		{"of another", ada, "?owner=bob&state=active", "5 4 3 1", "4", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			got, r := list(c.token, c.query)
			if got != c.want || r.header.Get("X-Total-Count") != c.total || r.header.Get("Link") != c.link {
				t.Errorf("got %q of %s, Link %s", got, r.header.Get("X-Total-Count"), r.header.Get("Link"))
			}
		})
	}
	h.do(request{method: "GET", path: listPath + "?owner=*", token: bob}).want(403, "forbidden")
	h.do(request{method: "GET", path: listPath + "?owner=ada", token: bob}).want(403, "forbidden")
	h.do(request{method: "GET", path: listPath + "?owner=nobody", token: ada}).want(404, "not_found")
	for _, query := range []string{"?limit=0", "?limit=201", "?limit=x", "?after=0", "?state=odd", "?search=" + strings.Repeat("x", 201)} {
		p := h.do(request{method: "GET", path: listPath + query, token: ada}).want(422, "invalid_request").problem()
		if len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Location, "query.") {
			t.Errorf("%s: got %+v", query, p.Errors)
		}
	}
}

// What each role may do with keys that are somebody else's, and its own.
func TestRoles(t *testing.T) {
	for _, c := range []struct {
		role                                     store.Role
		create, see, change, rotate, del, listed int
	}{
		{store.RoleMember, 201, 404, 404, 404, 404, 403},
		{store.RoleViewer, 403, 200, 403, 403, 403, 200},
		{store.RoleAdmin, 201, 200, 200, 200, 200, 200},
		{store.RoleOwner, 201, 200, 200, 200, 200, 200},
	} {
		t.Run(c.role.String(), func(t *testing.T) {
			h := newHarness(t, nil)
			key := h.createKey(h.login("ada", adaPassword), `{"name":"of ada"}`)
			h.setRole(2, c.role)
			token := h.login("bob", bobPassword)
			for _, step := range []struct {
				request request
				want    int
			}{
				{request{path: createPath, body: `{"name":"x"}`}, c.create},
				{request{method: "GET", path: onKey(key.ID, "")}, c.see},
				{request{method: "PATCH", path: onKey(key.ID, ""), body: `{"name":"y"}`}, c.change},
				{request{path: onKey(key.ID, "rotate/"), body: `{}`}, c.rotate},
				{request{method: "GET", path: listPath + "?owner=*"}, c.listed},
				{request{path: deletePath, body: fmt.Sprintf(`{"key_id":%d}`, key.ID)}, c.del},
			} {
				step.request.token = token
				if got := h.do(step.request); got.status != step.want {
					t.Errorf("%s %s: got %d, want %d: %s", step.request.method, step.request.path, got.status, step.want, got.body)
				}
			}
		})
	}
}

// A batch is made and deleted whole or not at all.
func TestBatches(t *testing.T) {
	h := newHarness(t, nil)
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	const makePath, dropPath = listPath + "batch-create/", listPath + "batch-delete/"
	var made []admin.CreatedKey
	h.do(request{path: makePath, body: `{"keys":[{"name":"a"},{"name":"b","scopes":["/v1/"]}]}`, token: bob}).want(201, "").decode(&made)
	if len(made) != 2 || made[0].Key == made[1].Key || made[1].Scopes[0] != "/v1/" {
		t.Fatalf("got %+v", made)
	}
	p := h.do(request{path: makePath, body: `{"keys":[{"name":"a"},{"name":" "},{"name":"c","allowed_ips":["x"]}]}`, token: bob}).want(422, "invalid_request").problem()
	if len(p.Errors) != 2 || p.Errors[0].Location != "body.keys[1].name" || p.Errors[1].Location != "body.keys[2].allowed_ips[0]" {
		t.Errorf("got %+v", p.Errors)
	}
	own := h.createKey(ada, `{"name":"of ada"}`)
	h.do(request{path: dropPath, body: fmt.Sprintf(`{"key_ids":[1,%d]}`, own.ID), token: bob}).want(404, "not_found")
	h.do(request{path: dropPath, body: `{"key_ids":[]}`, token: bob}).want(422, "invalid_request")
	if keys, err := h.store.ListKeys(t.Context(), 0); err != nil || len(keys) != 3 {
		t.Errorf("%d keys after what was refused, %v", len(keys), err)
	}
	h.do(request{path: dropPath, body: `{"key_ids":[1,2]}`, token: bob}).want(200, "")
	if keys, err := h.store.ListKeys(t.Context(), 2); err != nil || len(keys) != 0 {
		t.Errorf("%d keys are left, %v", len(keys), err)
	}
}
