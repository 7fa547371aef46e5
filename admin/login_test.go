package admin_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

func loginBody(name, password string) string {
	return fmt.Sprintf(`{"username":%q,"password":%q}`, name, password)
}

func TestLoginNames(t *testing.T) {
	h := newHarness(t, nil)
	for _, name := range []string{"ada", "ADA", "ada@example.com", "Ada@EXAMPLE.com"} {
		h.do(request{path: loginPath, body: loginBody(name, adaPassword)}).want(200, "")
	}
	for _, name := range []string{"ada ", "ada@example.org", "bob@example.com", "\u0430da", "ada\t", "@", "nobody"} {
		h.do(request{path: loginPath, body: loginBody(name, adaPassword)}).want(401, "invalid_credentials")
	}
}

// Unknown users, wrong passwords and names that nobody can have get the same
// answer, to the byte and header.
func TestLoginAnswersAlike(t *testing.T) {
	h := newHarness(t, nil)
	var first *response
	for _, body := range []string{
		loginBody("ada", "not the password"), loginBody("nobody", "not the password"), loginBody("no body", "x"),
		loginBody("ada", bobPassword), loginBody("ada", strings.Repeat("x", 1024)),
	} {
		got := h.do(request{path: loginPath, body: body}).want(401, "invalid_credentials")
		if first == nil {
			first = got
		}
		if got.body != first.body || fmt.Sprint(got.header) != fmt.Sprint(first.header) {
			t.Errorf("%s is told apart: %v %s", body, got.header, got.body)
		}
		if got.header.Get("WWW-Authenticate") == "" {
			t.Error("a 401 without WWW-Authenticate")
		}
	}
}

func TestLoginThrottle(t *testing.T) {
	wrong := "not the password"
	for _, c := range []struct {
		name  string
		tries func(i int) (login, from string)
		// after ten tries: who is refused, and who is not
		refused, admitted [2]string
	}{
		{"account from many addresses", func(i int) (string, string) { return "ada", fmt.Sprintf("192.0.2.%d:1", i) },
			[2]string{"ADA", "192.0.2.99:1"}, [2]string{"bob", "192.0.2.99:1"}},
		{"address trying many accounts", func(i int) (string, string) { return fmt.Sprintf("user%d", i), "192.0.2.1:1" },
			[2]string{"ada", "192.0.2.1:2"}, [2]string{"ada", "192.0.2.2:1"}},
		{"one IPv6 network", func(i int) (string, string) { return fmt.Sprintf("user%d", i), fmt.Sprintf("[2001:db8::%x]:1", i+1) },
			[2]string{"ada", "[2001:db8::ffff:1]:2"}, [2]string{"ada", "[2001:db8:0:1::1]:1"}},
		{"IPv4 as IPv6", func(i int) (string, string) { return fmt.Sprintf("user%d", i), "[::ffff:192.0.2.1]:1" },
			[2]string{"ada", "192.0.2.1:2"}, [2]string{"ada", "192.0.2.2:1"}},
		{"names that nobody can have", func(i int) (string, string) { return "no body", "192.0.2.1:1" },
			[2]string{"ada", "192.0.2.1:2"}, [2]string{"ada", "192.0.2.2:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, nil)
			for i := range 10 {
				login, from := c.tries(i)
				h.do(request{path: loginPath, body: loginBody(login, wrong), from: from}).want(401, "invalid_credentials")
			}
			password := map[string]string{"bob": bobPassword, "ada": adaPassword, "ADA": adaPassword}
			refused := request{path: loginPath, body: loginBody(c.refused[0], password[c.refused[0]]), from: c.refused[1]}
			got := h.do(refused).want(429, "too_many_attempts")
			if seconds, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 300 {
				t.Errorf("Retry-After: %q", got.header.Get("Retry-After"))
			}
			h.do(request{path: loginPath, body: loginBody(c.admitted[0], password[c.admitted[0]]), from: c.admitted[1]}).want(200, "")
			h.clock.advance(5*time.Minute - time.Second)
			h.do(refused).want(429, "too_many_attempts")
			h.clock.advance(time.Second)
			h.do(refused).want(200, "")
		})
	}
}

// Logins that succeed cost no attempts, however many there are.
func TestGoodLoginsAreNotThrottled(t *testing.T) {
	h := newHarness(t, nil)
	for range 25 {
		h.login("ada", adaPassword)
	}
}

// Guesses in parallel get no more tries than one after another.
func TestParallelGuesses(t *testing.T) {
	h := newHarness(t, nil)
	var mutex sync.Mutex
	statuses := map[int]int{}
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			got := h.do(request{path: loginPath, body: loginBody("ada", fmt.Sprintf("wrong password %d", i)), from: fmt.Sprintf("192.0.2.%d:1", i)})
			mutex.Lock()
			defer mutex.Unlock()
			statuses[got.status]++
		})
	}
	group.Wait()
	if statuses[401] != 10 || statuses[429] != 30 {
		t.Errorf("got %v, want ten tries", statuses)
	}
}

// A throttled login reads no user and hashes nothing.
func TestThrottleStandsFirst(t *testing.T) {
	var reads int
	h := newHarness(t, func(o *admin.Options) {
		o.Store = hookedStore{Store: o.Store, findUser: func() error { reads++; return nil }}
	})
	for range 12 {
		h.do(request{path: loginPath, body: loginBody("ada", "not the password")})
	}
	if reads != 10 {
		t.Errorf("%d users were read, want 10", reads)
	}
}

func TestClientAddressHeader(t *testing.T) {
	for _, c := range []struct {
		name, option string
		header       http.Header
		want         string
	}{
		{"not trusted", "", http.Header{"X-Client-Ip": {"192.0.2.7"}}, "127.0.0.1"},
		{"trusted", "x-client-ip", http.Header{"X-Client-Ip": {"192.0.2.7"}}, "192.0.2.7"},
		{"absent", "x-client-ip", nil, "127.0.0.1"},
		{"twice", "x-client-ip", http.Header{"X-Client-Ip": {"192.0.2.7", "192.0.2.8"}}, "127.0.0.1"},
		{"joined", "x-client-ip", http.Header{"X-Client-Ip": {"192.0.2.7,192.0.2.8"}}, "127.0.0.1"},
		{"no address", "x-client-ip", http.Header{"X-Client-Ip": {"unknown"}}, "127.0.0.1"},
		{"mapped", "x-client-ip", http.Header{"X-Client-Ip": {"::ffff:192.0.2.7"}}, "192.0.2.7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, func(o *admin.Options) { o.ClientAddressHeader = c.option })
			h.do(request{path: loginPath, body: loginBody("ada", adaPassword), header: c.header}).want(200, "")
			if want := `"address":"` + c.want + `"`; !strings.Contains(h.log.String(), want) {
				t.Errorf("the log lacks %s: %s", want, h.log)
			}
		})
	}
}

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

// hookedStore is a real store with something happening before some calls.
type hookedStore struct {
	admin.Store
	findUser      func() error
	createSession func()
	createKey     func(ctx context.Context) error
	sweep         func()
}

func (s hookedStore) FindUser(ctx context.Context, login string) (*store.User, error) {
	if s.findUser != nil {
		if err := s.findUser(); err != nil {
			return nil, err
		}
	}
	return s.Store.FindUser(ctx, login)
}

func (s hookedStore) CreateSession(ctx context.Context, session *store.Session) error {
	if s.createSession != nil {
		s.createSession()
	}
	return s.Store.CreateSession(ctx, session)
}

func (s hookedStore) CreateKey(ctx context.Context, key *apikey.Key) (*apikey.Key, error) {
	if s.createKey != nil {
		if err := s.createKey(ctx); err != nil {
			return nil, err
		}
	}
	return s.Store.CreateKey(ctx, key)
}

func (s hookedStore) DeleteExpiredSessions(ctx context.Context, now time.Time) (int, error) {
	n, err := s.Store.DeleteExpiredSessions(ctx, now)
	if s.sweep != nil {
		s.sweep()
	}
	return n, err
}

// What the store reports becomes a status, and the cause stays in the log.
func TestStoreErrors(t *testing.T) {
	for _, c := range []struct {
		err        error
		status     int
		code       string
		retryAfter bool
		logged     bool
	}{
		{store.ErrFull, 507, "storage_full", false, true},
		{store.ErrUnavailable, 503, "storage_unavailable", true, true},
		{store.ErrClosed, 503, "storage_unavailable", true, true},
		{context.DeadlineExceeded, 503, "storage_unavailable", true, true},
		{store.ErrDamaged, 500, "storage_damaged", false, true},
		{errors.New("something else"), 500, "internal_error", false, true},
	} {
		t.Run(c.code+"/"+c.err.Error(), func(t *testing.T) {
			fail := false
			h := newHarness(t, func(o *admin.Options) {
				broken := fmt.Errorf("secret cause: %w", c.err)
				hook := func() error {
					if fail {
						return broken
					}
					return nil
				}
				o.Store = hookedStore{Store: o.Store, findUser: hook, createKey: func(context.Context) error { return hook() }}
			})
			token := h.login("ada", adaPassword)
			fail = true
			calls := []request{{path: createPath, body: `{"name":"x"}`, token: token}}
			for range 12 {
				calls = append(calls, request{path: loginPath, body: loginBody("ada", adaPassword)})
			}
			for _, r := range calls {
				got := h.do(r).want(c.status, c.code)
				if strings.Contains(got.body, "secret cause") {
					t.Errorf("the answer tells the cause: %s", got.body)
				}
				if has := got.header.Get("Retry-After") != ""; has != c.retryAfter {
					t.Errorf("Retry-After: %q", got.header.Get("Retry-After"))
				}
			}
			if logged := strings.Contains(h.log.String(), "secret cause"); logged != c.logged {
				t.Errorf("logged: %v", h.log)
			}
			fail = false
			h.login("ada", adaPassword) // faults of ours cost nobody an attempt
		})
	}
}

// Work behind a request has a deadline.
func TestRequestsHaveADeadline(t *testing.T) {
	var left time.Duration
	h := newHarness(t, func(o *admin.Options) {
		o.Store = hookedStore{Store: o.Store, createKey: func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return nil
		}}
	})
	h.do(request{path: createPath, body: `{"name":"x"}`, token: h.login("ada", adaPassword)}).want(201, "")
	if left <= 0 || left > 5*time.Second {
		t.Errorf("%v left, want up to 5s", left)
	}
}
