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

// Guesses in parallel get no more tries than one after another: none has an
// answer, other than that it is one too many, before all were sent.
func TestParallelGuesses(t *testing.T) {
	const guesses = 40
	var mutex sync.Mutex
	statuses := map[int]int{}
	met, all := 0, make(chan struct{})
	meet := func() {
		mutex.Lock()
		defer mutex.Unlock()
		if met++; met == guesses {
			close(all)
		}
	}
	h := newHarness(t, func(o *admin.Options) {
		o.Store = hookedStore{Store: o.Store, findUser: func() error { meet(); <-all; return nil }}
	})
	var group sync.WaitGroup
	for i := range guesses {
		group.Go(func() {
			got := h.do(request{path: loginPath, body: loginBody("ada", fmt.Sprintf("wrong password %d", i)), from: fmt.Sprintf("192.0.2.%d:1", i)})
			mutex.Lock()
			statuses[got.status]++
			mutex.Unlock()
			if got.status == http.StatusTooManyRequests {
				meet()
			}
		})
	}
	group.Wait()
	if statuses[401] != 10 || statuses[429] != guesses-10 {
		t.Errorf("got %v, want ten tries", statuses)
	}
}

// Hanging up while a password is looked at takes no guess back.
func TestGuessesOfThoseWhoLeave(t *testing.T) {
	for name, made := range map[string]error{"elsewhere": nil, "here": errors.New("no process")} {
		t.Run(name, func(t *testing.T) {
			leave := func() {}
			h := newHarness(t, func(o *admin.Options) {
				o.HashElsewhere = func(_ context.Context, in admin.PasswordInput) (admin.PasswordDigest, error) {
					leave()
					digest := sha256.Sum256(in.Password) // of another password, another one
					return admin.PasswordDigest{Digest: digest[:]}, made
				}
			})
			for i := range 12 {
				ctx, cancel := context.WithCancel(t.Context())
				leave = cancel
				got := h.do(request{path: loginPath, body: loginBody("ada", "not the password"), context: ctx})
				if want := i >= 10; (got.status == http.StatusTooManyRequests) != want {
					t.Errorf("guess %d is answered %d", i+1, got.status)
				}
				cancel()
			}
		})
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
