package admin_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
)

// What a policy says holds for the requests that come after it; one that is
// refused changes nothing.
func TestSetPolicy(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.PublicURL = "https://keys.example.io" })
	first := h.login("ada", adaPassword)
	before := h.createKey(first, `{"name":"before","allowed_ips":["203.0.113.0/24"]}`)
	explain := func(token string) (e admin.Explanation) {
		t.Helper()
		h.do(request{path: onKey(before.ID, "explain/"), body: `{"origin":"https://a.example","ip":"198.51.100.1"}`, token: token}).want(200, "").decode(&e)
		return e
	}
	if e := explain(first); !e.Allowed {
		t.Fatalf("strict from the beginning: %+v", e)
	}
	misdirected := func(host string) bool {
		return h.do(request{method: "GET", path: "/openapi.json", host: host}).status == 421
	}
	err := h.admin.SetPolicy(admin.Policy{SessionTTL: time.Hour, SessionIdle: 12 * time.Hour, DefaultRateLimit: 60, AllowedHosts: []string{"new.example"}, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if misdirected("new.example") || misdirected("keys.example.io") || !misdirected("evil.example") {
		t.Error("the hosts are not those of the new policy and of the public URL")
	}
	if e := explain(first); e.Allowed || e.Reason != "address_not_allowed" {
		t.Errorf("an explanation does not know that every key is strict: %+v", e)
	}
	if after := h.createKey(first, `{"name":"after"}`); after.RateLimitPerHour == nil || *after.RateLimitPerHour != 60 {
		t.Errorf("a key is made with the limit %v, want 60", after.RateLimitPerHour)
	}
	second := h.login("ada", adaPassword)

	err = h.admin.SetPolicy(admin.Policy{SessionTTL: time.Hour, AllowedHosts: []string{"a:1"}})
	if err == nil || !strings.Contains(err.Error(), "AllowedHosts[0]") {
		t.Errorf("a host with a port gets the error %v", err)
	}
	if e := explain(second); e.Allowed || misdirected("new.example") {
		t.Error("a policy that was refused holds")
	}

	h.clock.advance(time.Hour)
	h.do(request{method: "GET", path: "/api/users/auth/api-keys/", token: second}).want(401, "unauthenticated")
	h.do(request{method: "GET", path: "/api/users/auth/api-keys/", token: first}).want(200, "") // it was promised more
}

// What is behind a request may take as long as it is told to, and no longer.
func TestRequestTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]bool{0: true, time.Minute: true, time.Nanosecond: false} {
		a, err := admin.New(admin.Options{Store: openStore(t), RequestTimeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		_, err = admin.NewLocalOperatorClient(a.Operator()).ListUsers(t.Context())
		if (err == nil) != want {
			t.Errorf("a timeout of %v: %v", timeout, err)
		}
	}
}
