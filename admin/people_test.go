package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

const authPath = "/api/users/auth/"

func (h *harness) get(path, token string) *response {
	h.t.Helper()
	return h.do(request{method: "GET", path: authPath + path, token: token})
}

func (h *harness) post(path, body, token string) *response {
	h.t.Helper()
	return h.do(request{path: authPath + path, body: body, token: token})
}

// A page signs in by a cookie, which then stands for the session.
func TestCookie(t *testing.T) {
	for name, c := range map[string]struct {
		url, cookie, attributes string
	}{
		"plain": {"", "tokenkit-session", "; Path=/; Expires=Mon, 02 Mar 2026 00:00:00 GMT; Max-Age=43200; HttpOnly; SameSite=Strict"},
		"TLS":   {"https://localhost", "__Host-tokenkit-session", "; Path=/; Expires=Mon, 02 Mar 2026 00:00:00 GMT; Max-Age=43200; HttpOnly; Secure; SameSite=Strict"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, func(o *admin.Options) { o.PublicURL = c.url })
			var me admin.Me
			signedIn := h.post("login/cookie/", loginBody("ADA", adaPassword), "").want(200, "")
			signedIn.decode(&me)
			set := signedIn.header.Get("Set-Cookie")
			pair, attributes, _ := strings.Cut(set, ";")
			cookieName, token, _ := strings.Cut(pair, "=")
			if cookieName != c.cookie || ";"+attributes != c.attributes || len(token) != 47 {
				t.Fatalf("set %s", set)
			}
			if strings.Contains(signedIn.body, token) || me.Name != "ada" || me.Role != "owner" || len(me.SessionID) != 16 {
				t.Errorf("told %s", signedIn.body)
			}
			with := func(r request, more http.Header) *response {
				r.header = http.Header{"Cookie": {pair}}
				for name, values := range more {
					r.header[name] = values
				}
				return h.do(r)
			}
			var again admin.Me
			with(request{method: "GET", path: authPath + "me/"}, nil).want(200, "").decode(&again)
			if again != me {
				t.Errorf("then told %+v, want %+v", again, me)
			}
			create := request{path: createPath, body: `{"name":"x"}`}
			with(create, http.Header{"Sec-Fetch-Site": {"same-origin"}}).want(201, "")
			with(create, http.Header{"Sec-Fetch-Site": {"cross-site"}}).want(403, "cross_origin")
			with(create, http.Header{"Sec-Fetch-Site": {"same-site"}}).want(403, "cross_origin")
			with(create, http.Header{"Origin": {"https://evil.example"}}).want(403, "cross_origin")
			// A bearer that is there decides, good or bad.
			with(create, http.Header{"Authorization": {"Bearer x"}}).want(401, "unauthenticated")
			with(create, http.Header{"Cookie": {pair + "; " + pair}}).want(401, "unauthenticated")
			with(create, http.Header{"Cookie": {"other-" + pair}}).want(401, "unauthenticated")
			out := with(request{path: logoutPath}, nil).want(204, "")
			if cleared := out.header.Get("Set-Cookie"); !strings.HasPrefix(cleared, c.cookie+"=; Path=/; Max-Age=0; HttpOnly") {
				t.Errorf("logout set %s", cleared)
			}
			with(request{method: "GET", path: authPath + "me/"}, nil).want(401, "unauthenticated")
		})
	}
}

func TestSessions(t *testing.T) {
	h := newHarness(t, nil)
	first, second, third := h.login("ada", adaPassword), h.login("ada", adaPassword), h.login("ada", adaPassword)
	bob := h.login("bob", bobPassword)
	h.do(request{path: loginPath, body: loginBody("ada", adaPassword), from: "203.0.113.5:1", header: http.Header{"User-Agent": {"Browser/1"}}}).want(200, "")
	h.clock.advance(time.Minute)
	list := func(token string) (sessions []admin.SessionInfo) {
		t.Helper()
		h.get("sessions/", token).want(200, "").decode(&sessions)
		return sessions
	}
	sessions := list(first)
	if len(sessions) != 4 || len(list(bob)) != 1 {
		t.Fatalf("got %+v", sessions)
	}
	byAddress := map[string]admin.SessionInfo{}
	current := 0
	for _, s := range sessions {
		byAddress[s.Address] = s
		if s.Current {
			current++
			if s.LastSeenAt == nil || !s.LastSeenAt.Equal(h.clock.now()) {
				t.Errorf("the present session was last seen at %v", s.LastSeenAt)
			}
		}
	}
	if current != 1 || byAddress["203.0.113.5"].UserAgent != "Browser/1" || byAddress["203.0.113.5"].LastSeenAt != nil {
		t.Errorf("got %+v", sessions)
	}
	h.post("sessions/revoke/", fmt.Sprintf(`{"session_id":%q}`, byAddress["203.0.113.5"].ID), bob).want(404, "not_found")
	h.post("sessions/revoke/", fmt.Sprintf(`{"session_id":%q}`, byAddress["203.0.113.5"].ID), first).want(204, "")
	h.post("sessions/revoke/", `{"session_id":"x"}`, first).want(404, "not_found")
	if len(list(first)) != 3 {
		t.Errorf("after one was revoked: %+v", list(first))
	}
	if got := h.post("sessions/revoke-others/", "", first).want(200, ""); strings.TrimSpace(got.body) != `{"revoked":2}` {
		t.Errorf("got %s", got.body)
	}
	for _, ended := range []string{second, third} {
		h.get("me/", ended).want(401, "unauthenticated")
	}
	h.get("me/", first).want(200, "")
	h.get("me/", bob).want(200, "")
}

// When a session was last seen is written behind, and when the API stops.
func TestLastSeenIsWritten(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	h.clock.advance(time.Minute)
	h.get("me/", token).want(200, "")
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.admin.Run(stopped); err != nil {
		t.Fatal(err)
	}
	sessions, err := h.store.ListSessions(t.Context(), 1)
	if err != nil || len(sessions) != 1 || !sessions[0].LastSeenAt.Equal(h.clock.now()) {
		t.Errorf("got %+v, %v", sessions, err)
	}
}

func TestChangePassword(t *testing.T) {
	h := newHarness(t, nil)
	token, other := h.login("ada", adaPassword), h.login("ada", adaPassword)
	change := func(current, password string) *response {
		return h.post("change-password/", fmt.Sprintf(`{"current_password":%q,"new_password":%q}`, current, password), token)
	}
	for _, c := range []struct{ name, current, password, location string }{
		{"wrong", "not it", "a new password", "body.current_password"}, {"short", adaPassword, "short", "body.new_password"},
	} {
		if p := change(c.current, c.password).want(422, "invalid_request").problem(); p.Errors[0].Location != c.location {
			t.Errorf("%s: %+v", c.name, p.Errors)
		}
	}
	change(adaPassword, "a new password").want(204, "")
	h.get("me/", token).want(200, "")
	h.get("me/", other).want(401, "unauthenticated")
	h.do(request{path: loginPath, body: loginBody("ada", adaPassword)}).want(401, "invalid_credentials")
	h.login("ada", "a new password")
	for range 8 {
		change("wrong again", "another password").want(422, "invalid_request")
	}
	change("a new password", "another password").want(429, "too_many_attempts")
}

// Only owners manage users; the last one stays, and so does who owns keys.
func TestUsers(t *testing.T) {
	h := newHarness(t, nil)
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	h.createKey(bob, `{"name":"x"}`)
	for role, want := range map[store.Role]int{store.RoleMember: 403, store.RoleViewer: 200, store.RoleAdmin: 200} {
		h.setRole(2, role)
		if got := h.get("users/", bob); got.status != want {
			t.Errorf("%v lists users: %d", role, got.status)
		}
		for path, body := range map[string]string{
			"users/update/": `{"user_id":2,"role":"owner"}`, "users/delete/": `{"user_id":1}`, "users/invite/": `{"name":"eve"}`,
			"invitations/revoke/": `{"invitation_id":"x"}`,
		} {
			h.post(path, body, bob).want(403, "forbidden")
		}
	}
	h.post("users/update/", `{"user_id":1,"role":"admin"}`, ada).want(409, "last_owner")
	h.post("users/delete/", `{"user_id":1}`, ada).want(409, "last_owner")
	h.post("users/delete/", `{"user_id":2}`, ada).want(409, "in_use")
	h.post("users/delete/", `{"user_id":99}`, ada).want(404, "not_found")
	h.post("users/update/", `{"user_id":2,"email":"ada@example.com"}`, ada).want(409, "already_exists")
	h.post("users/update/", `{"user_id":2,"role":"king"}`, ada).want(422, "invalid_request")
	var user admin.User
	h.post("users/update/", `{"user_id":2,"role":"viewer","email":"Bob@Example.com"}`, ada).want(200, "").decode(&user)
	if user.Role != "viewer" || user.Email != "bob@example.com" {
		t.Errorf("got %+v", user)
	}
	h.post("users/update/", `{"user_id":2,"email":null}`, ada).want(200, "")
	h.do(request{path: deletePath, body: `{"key_id":1}`, token: ada}).want(200, "")
	h.post("users/delete/", `{"user_id":2}`, ada).want(200, "")
	h.get("me/", bob).want(401, "unauthenticated")
}

// An invitation is accepted once, in its time, by whoever has its link.
func TestInvitations(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.PublicURL = "https://localhost" })
	ada := h.login("ada", adaPassword)
	invite := func(body string) (sent admin.SentInvitation, token string) {
		t.Helper()
		h.post("users/invite/", body, ada).want(201, "").decode(&sent)
		token, found := strings.CutPrefix(sent.Link, "https://localhost/accept-invitation#")
		if !found || !strings.HasPrefix(token, admin.InvitationPrefix) {
			t.Fatalf("the link is %s", sent.Link)
		}
		return sent, token
	}
	accept := func(token, password string) *response {
		return h.post("accept-invitation/", fmt.Sprintf(`{"token":%q,"password":%q}`, token, password), "")
	}
	sent, token := invite(`{"name":"Eve","email":"eve@example.com","role":"admin"}`)
	if !sent.ExpiresAt.Equal(h.clock.now().Add(admin.InvitationTTL)) {
		t.Errorf("got %+v", sent)
	}
	listed := h.get("invitations/", ada).want(200, "")
	if strings.Contains(listed.body, token) || !strings.Contains(listed.body, sent.ID) || !strings.Contains(listed.body, `"invited_by":"ada"`) {
		t.Errorf("listed %s", listed.body)
	}
	h.post("users/invite/", `{"name":"bob"}`, ada).want(409, "already_exists")
	accept(token+"x", "a password of eve").want(404, "not_found")
	accept(token, "short").want(422, "invalid_request")
	var eve admin.User
	accept(token, "a password of eve").want(201, "").decode(&eve)
	if eve.Name != "eve" || eve.Role != "admin" || eve.Email != "eve@example.com" {
		t.Errorf("got %+v", eve)
	}
	accept(token, "a password of eve").want(404, "not_found")
	h.login("eve", "a password of eve")
	sent, token = invite(`{"name":"mallory"}`)
	h.post("invitations/revoke/", fmt.Sprintf(`{"invitation_id":%q}`, sent.ID), ada).want(204, "")
	h.post("invitations/revoke/", fmt.Sprintf(`{"invitation_id":%q}`, sent.ID), ada).want(404, "not_found")
	accept(token, "a password of mallory").want(404, "not_found")
	_, token = invite(`{"name":"mallory"}`)
	h.clock.advance(admin.InvitationTTL)
	accept(token, "a password of mallory").want(404, "not_found")
	if strings.Contains(h.log.String(), token) {
		t.Error("the log tells a token")
	}
	for range 10 {
		accept("tki_guess", "a password of mallory")
	}
	accept("tki_guess", "a password of mallory").want(429, "too_many_attempts")
}

func TestBlocked(t *testing.T) {
	one := netip.MustParsePrefix("203.0.113.9/32")
	h := newHarness(t, nil)
	until := h.clock.now().Add(time.Minute)
	blocked := blockList{one: {Prefix: one, Failures: 10, Reason: apikey.ReasonUnknownKey, Since: h.clock.now(), Until: until}}
	h = newHarness(t, func(o *admin.Options) { o.Blocks = blocked })
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	want := `[{"address":"203.0.113.9","failures":10,"reason":"unknown_key","since":"2026-03-01T12:00:00Z","until":"2026-03-01T12:01:00Z"}]`
	if got := h.get("blocked/", ada).want(200, ""); strings.TrimSpace(got.body) != want {
		t.Errorf("got %s", got.body)
	}
	h.get("blocked/", bob).want(403, "forbidden")
	const body = `{"address":"203.0.113.9"}`
	h.post("blocked/remove/", body, bob).want(403, "forbidden")
	h.setRole(2, store.RoleViewer)
	h.get("blocked/", bob).want(200, "")
	h.post("blocked/remove/", body, bob).want(403, "forbidden")
	h.post("blocked/remove/", body, ada).want(204, "")
	h.post("blocked/remove/", body, ada).want(404, "not_found")
	if events, err := h.store.ListEvents(t.Context(), store.EventFilter{ActionPrefix: "address."}); err != nil || len(events) != 1 || events[0].TargetName != "203.0.113.9" || events[0].By.Name != "ada" {
		t.Errorf("the audit log has %+v, %v", events, err)
	}
}
