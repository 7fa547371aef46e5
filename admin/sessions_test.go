package admin_test

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
)

func TestSessionEnds(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.SessionTTL = time.Hour })
	list := func(token string) *response { return h.do(request{method: "GET", path: listPath, token: token}) }
	first, second := h.login("ada", adaPassword), h.login("ada", adaPassword)
	if first == second {
		t.Fatal("two logins got one token")
	}
	h.do(request{path: logoutPath, token: first}).want(204, "")
	list(first).want(401, "unauthenticated")
	list(second).want(200, "")
	h.clock.advance(time.Hour - time.Second)
	list(second).want(200, "")
	h.clock.advance(time.Second)
	if got := list(second).want(401, "unauthenticated"); !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer") {
		t.Errorf("WWW-Authenticate: %q", got.header.Get("WWW-Authenticate"))
	}
	third := h.login("ada", adaPassword)
	if err := h.operator.SetPassword(t.Context(), "ada", "another password of ada"); err != nil {
		t.Fatal(err)
	}
	list(third).want(401, "unauthenticated")
	h.do(request{path: loginPath, body: loginBody("ada", adaPassword)}).want(401, "invalid_credentials")
	h.login("ada", "another password of ada")
}

// Only the SHA-256 of a token is stored.
func TestSessionIsStoredHashed(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	session, err := h.store.FindSession(t.Context(), sha256.Sum256([]byte(token)))
	if err != nil || session.User != 1 {
		t.Errorf("got %+v, %v", session, err)
	}
}

func TestBadBearers(t *testing.T) {
	h := newHarness(t, nil)
	token := h.login("ada", adaPassword)
	for name, values := range map[string][]string{
		"none": nil, "empty": {""}, "no scheme": {token}, "basic": {"Basic " + token}, "two spaces": {"Bearer  " + token},
		"twice": {"Bearer " + token, "Bearer " + token}, "joined": {"Bearer " + token + ", Bearer " + token}, "short": {"Bearer " + token[:46]},
		"long": {"Bearer " + token + "A"}, "other prefix": {"Bearer tk_" + token[3:]}, "unknown": {"Bearer tks_" + strings.Repeat("A", 43)},
		"other case": {"Bearer " + strings.ToUpper(token)},
	} {
		t.Run(name, func(t *testing.T) {
			h.t = t
			for _, path := range []string{createPath, deletePath, logoutPath} {
				h.do(request{path: path, body: `{`, header: http.Header{"Authorization": values}}).want(401, "unauthenticated")
			}
			h.do(request{method: "GET", path: listPath, header: http.Header{"Authorization": values}}).want(401, "unauthenticated")
		})
	}
	h.do(request{method: "GET", path: listPath, header: http.Header{"Authorization": {"bearer " + token}}}).want(200, "")
}

// A password that is changed while an old one is being accepted leaves no
// session behind.
func TestPasswordChangedDuringLogin(t *testing.T) {
	var h *harness
	var once sync.Once
	h = newHarness(t, func(o *admin.Options) {
		o.Store = hookedStore{Store: o.Store, createSession: func() {
			once.Do(func() {
				if err := h.operator.SetPassword(context.Background(), "ada", "another password of ada"); err != nil {
					t.Error(err)
				}
			})
		}}
	})
	h.do(request{path: loginPath, body: loginBody("ada", adaPassword)}).want(401, "invalid_credentials")
	h.clock.advance(24 * time.Hour)
	if n, err := h.store.DeleteExpiredSessions(t.Context(), h.clock.now()); n != 0 || err != nil {
		t.Errorf("%d sessions were left, %v", n, err)
	}
}

// A login renews a hash that was made under another cost.
func TestHashIsRenewed(t *testing.T) {
	h := newHarness(t, nil)
	before, err := h.store.FindUser(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	dearer, err := admin.New(admin.Options{Store: h.store, Now: h.clock.now, Passwords: admin.PasswordCost{MemoryKiB: 16, Passes: 2, Parallelism: 2}})
	if err != nil {
		t.Fatal(err)
	}
	h.admin = dearer
	h.do(request{path: loginPath, body: loginBody("ada", "not the password")}).want(401, "")
	token := h.login("ada", adaPassword)
	after, err := h.store.FindUser(t.Context(), "ada")
	if err != nil || after.PasswordHash == before.PasswordHash || !strings.HasPrefix(after.PasswordHash, "$argon2id$v=19$m=16,t=2,p=2$") {
		t.Errorf("the hash begins with %.40s, %v", after.PasswordHash, err)
	}
	h.do(request{method: "GET", path: listPath, token: token}).want(200, "")
	h.login("ada", adaPassword)
	if again, err := h.store.FindUser(t.Context(), "ada"); err != nil || again.PasswordHash != after.PasswordHash {
		t.Errorf("a current hash was renewed, %v", err)
	}
}

// Whoever steals the hashes pays 19 MiB and two passes for each guess, also for
// a password that was set when a hash was cheaper.
func TestAttackStolenHashes(t *testing.T) {
	h := newHarness(t, nil)
	const least = "$argon2id$v=19$m=19456,t=2,p=1$"
	if before, err := h.store.FindUser(t.Context(), "ada"); err != nil || strings.HasPrefix(before.PasswordHash, least) {
		t.Fatalf("the hash begins with %.40s, %v", before.PasswordHash, err)
	}
	byDefault, err := admin.New(admin.Options{Store: h.store, Now: h.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	h.admin = byDefault
	h.login("ada", adaPassword)
	if after, err := h.store.FindUser(t.Context(), "ada"); err != nil || !strings.HasPrefix(after.PasswordHash, least) {
		t.Errorf("the hash begins with %.40s, %v; want %s", after.PasswordHash, err, least)
	}
}
