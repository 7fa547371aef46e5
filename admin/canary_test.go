package admin_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/admin"
)

// No password, key or token appears in a log at any level, nor in any answer
// but the one that is made to show it.
func TestSecretsAreNeverTold(t *testing.T) {
	h := newHarness(t, nil)
	var answers strings.Builder
	do := func(r request) *response {
		got := h.do(r)
		fmt.Fprintln(&answers, got.header, got.body)
		return got
	}
	const mistyped = "canary-typed-for-a-name"
	token := h.login("ada", adaPassword)
	other := h.login("bob", bobPassword)
	var created admin.CreatedKey
	h.do(request{path: createPath, body: `{"name":"x"}`, token: token}).want(201, "").decode(&created)
	secrets := map[string]string{
		"password": adaPassword, "other password": bobPassword, "token": token, "other token": other, "key": created.Key, "name": mistyped,
	}
	withKey := http.Header{"Api-Key": {created.Key}, "Authorization": {"Bearer " + token}}
	for _, r := range []request{
		{path: loginPath, body: loginBody("ada", bobPassword)},
		{path: loginPath, body: loginBody(mistyped, adaPassword)},
		{path: loginPath, body: loginBody(mistyped+" ", adaPassword)},
		{path: loginPath, body: `{"username":"ada","password":{"x":"` + adaPassword + `"}}`},
		{path: loginPath, body: `{"username":"ada","password":"` + adaPassword + `\x"}`},
		{path: loginPath, body: `{"username":"ada","password":"` + adaPassword + `"`},
		{path: loginPath, body: `{"username":1,"password":"` + adaPassword + `","more":"` + token + `"}`},
		{path: createPath, body: `{"name":"x","allowed_ips":["` + created.Key + `"]}`, header: withKey},
		{path: createPath, body: `{"name":"x","allowed_origins":["` + created.Key + `@"]}`, header: withKey},
		{path: createPath, body: `{"name":"` + adaPassword + `\u0000"}`, header: withKey},
		{path: deletePath, body: `{"key_id":"` + created.Key + `"}`, header: withKey},
		{method: "GET", path: listPath + "?token=" + token, header: withKey},
		{method: "GET", path: "/" + token, header: withKey},
		{method: "GET", path: listPath, token: created.Key[:3] + token[3:]},
		{method: "GET", path: listPath, host: token + ".test"},
		{path: deletePath, body: fmt.Sprintf(`{"key_id":%d}`, created.ID), header: withKey},
		{path: logoutPath, header: withKey},
		{method: "GET", path: listPath, header: withKey},
	} {
		do(r)
	}
	var sent admin.SentInvitation
	h.post("users/invite/", `{"name":"carol"}`, h.login("ada", adaPassword)).want(201, "").decode(&sent)
	_, invitation, _ := strings.Cut(sent.Link, "#")
	secrets["invitation"] = invitation
	page := h.do(request{path: authPath + "login/cookie/", body: loginBody("ada", adaPassword)}).want(200, "")
	fmt.Fprintln(&answers, page.body)
	cookie, _, _ := strings.Cut(strings.TrimPrefix(page.header.Get("Set-Cookie"), "tokenkit-session="), ";")
	secrets["cookie"] = cookie
	withCookie := http.Header{"Cookie": {"tokenkit-session=" + cookie}}
	var kept, rotated admin.CreatedKey
	h.do(request{path: createPath, body: `{"name":"kept"}`, header: withCookie}).want(201, "").decode(&kept)
	h.do(request{path: onKey(kept.ID, "rotate/"), body: `{}`, header: withCookie}).want(200, "").decode(&rotated)
	secrets["kept key"], secrets["rotated key"] = kept.Key, rotated.Key
	for _, r := range []request{
		{path: authPath + "login/cookie/", body: loginBody("ada", bobPassword)},
		{path: authPath + "login/cookie/", body: loginBody(mistyped, adaPassword)},
		{path: authPath + "change-password/", body: `{"current_password":"` + bobPassword + `","new_password":"` + mistyped + `"}`},
		{path: authPath + "change-password/", body: `{"current_password":"` + adaPassword + `","new_password":"short"}`},
		{path: authPath + "accept-invitation/", body: `{"token":"` + invitation + `","password":"short"}`},
		{path: authPath + "accept-invitation/", body: `{"token":"x` + invitation + `","password":"` + adaPassword + `"}`},
		{method: "PATCH", path: onKey(kept.ID, ""), body: `{"notes":1,"metadata":{"` + kept.Key + `":"x"},"scopes":["` + rotated.Key + ` "]}`},
		{method: "PATCH", path: onKey(kept.ID, ""), body: `{"scopes":["` + rotated.Key + `"]}`},
		{path: onKey(kept.ID, "explain/"), body: `{"path":"` + kept.Key + `"}`},
		{method: "GET", path: onKey(kept.ID, "")},
		{method: "GET", path: listPath + "?search=kept"},
		{method: "GET", path: listPath + "?state=" + kept.Key},
		{method: "GET", path: authPath + "usage/?key_id=" + kept.Key},
		{method: "GET", path: authPath + "me/"},
		{method: "GET", path: authPath + "sessions/"},
		{method: "GET", path: authPath + "users/"},
		{method: "GET", path: authPath + "invitations/"},
		{method: "GET", path: authPath + "audit/"},
		{method: "GET", path: authPath + "audit/export/"},
	} {
		r.header = withCookie
		do(r)
	}
	for range 12 {
		do(request{path: loginPath, body: loginBody("ada", bobPassword)})
	}
	if err := h.operator.SetPassword(t.Context(), "ada", "short"); err == nil || strings.Contains(err.Error(), "short ") {
		t.Errorf("got %v", err)
	}
	for _, event := range []string{`"login failed"`, `"login refused`, `"msg":"login"`, `"key created"`, `"key deleted"`, `"logout"`, `"known":false`, `"user added"`} {
		if !strings.Contains(h.log.String(), event) {
			t.Errorf("the log has no %s", event)
		}
	}
	for name, secret := range secrets {
		for form, text := range map[string]string{
			"as is": secret, "in part": secret[4:20], "in hex": hex.EncodeToString([]byte(secret)), "in base64": base64.StdEncoding.EncodeToString([]byte(secret))[:24],
		} {
			if strings.Contains(h.log.String(), text) {
				t.Errorf("the log tells the %s %s", name, form)
			}
			if strings.Contains(answers.String(), text) {
				t.Errorf("an answer tells the %s %s", name, form)
			}
		}
	}
}
