package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/envoy/echo"
)

const fakeSecret = "tk_0000000000000000000000000000000000000000000000000"

// fakeEnv stands in for a front that is wrong in one way.
type fakeEnv struct {
	t *testing.T
	// answer is what it does with a request that makes no key.
	answer func(http.Handler) http.HandlerFunc
}

func (e fakeEnv) Start(context.Context, Settings) (*Stack, error) {
	upstream := echo.Start(e.t)
	rest := e.answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// As a proxy that changes nothing.
		request, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+upstream.Address(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		request.URL.Opaque, request.Header, request.ContentLength = r.RequestURI, r.Header, r.ContentLength
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		w.WriteHeader(response.StatusCode)
	}))
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == createPath {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"id": 1, "key": %q}`, fakeSecret)
			return
		}
		rest(w, r)
	}))
	return &Stack{
		Front: strings.TrimPrefix(front.URL, "http://"), Upstream: upstream, Token: "tks_secret", Owner: "o", Username: "u", Password: "pass-word",
		Close: func() error { front.Close(); return nil },
	}, nil
}

// Every case fails at a front that is wrong: one that denies must fail where
// anything may pass, one that lets all pass where anything is denied.
func TestEveryCaseCanFail(t *testing.T) {
	open := func(next http.Handler) http.HandlerFunc { return next.ServeHTTP }
	closed := func(http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }
	}
	failed := map[string]bool{}
	for name, answer := range map[string]func(http.Handler) http.HandlerFunc{"open": open, "closed": closed} {
		for i, result := range Run(t.Context(), fakeEnv{t, answer}, Groups()) {
			row := fmt.Sprint(i, " ", result.Group, ": ", result.Case)
			denies := false
			for _, step := range findCase(t, result).Steps {
				denies = denies || step.Want.Status >= 400
			}
			if result.Err == nil && (name == "closed" || denies) && !rightAnyway(findCase(t, result)) {
				t.Errorf("%s passes at the %s front", row, name)
			}
			failed[row] = failed[row] || result.Err != nil
			for _, secret := range []string{fakeSecret, "tks_secret", "pass-word"} {
				if result.Err != nil && strings.Contains(result.Err.Error(), secret) {
					t.Errorf("%s: the error holds a secret", row)
				}
			}
		}
	}
	if len(failed) < 60 {
		t.Errorf("there are only %d cases", len(failed))
	}
}

// rightAnyway reports whether a case asks only for what the fake fronts do as
// they should: they make keys, and net/http refuses what is no HTTP.
func rightAnyway(c *Case) bool {
	for _, step := range c.Steps {
		makesKey := step.Request == "POST "+createPath && step.Want.Status == http.StatusCreated
		notHTTP := strings.Contains(strings.Join(step.Headers, ""), "\x00")
		if !makesKey && !notHTTP {
			return false
		}
	}
	return true
}

func findCase(t *testing.T, result Result) *Case {
	t.Helper()
	for _, group := range Groups() {
		for i := range group.Cases {
			if group.Name == result.Group && group.Cases[i].Name == result.Case {
				return &group.Cases[i]
			}
		}
	}
	t.Fatalf("there is no case %q in group %q", result.Case, result.Group)
	return nil
}

func TestTableIsWellFormed(t *testing.T) {
	promised := map[string]bool{}
	addresses := map[[4]byte]string{}
	for i, group := range Groups() {
		names := map[string]bool{}
		for j, c := range group.Cases {
			promised[c.Promise] = true
			if names[c.Name] {
				t.Errorf("%s: two cases are called %q", group.Name, c.Name)
			}
			names[c.Name] = true
			if len(c.Steps) == 0 {
				t.Errorf("%s: %s does nothing", group.Name, c.Name)
			}
			address := caseAddress(i, j)
			if other, found := addresses[address]; found || address[3]%2 == 1 || address[3] == 0 {
				t.Errorf("%s and %s share address %v", c.Name, other, address)
			}
			addresses[address] = c.Name
		}
	}
	for _, promise := range []string{
		promiseHeader, promiseBearer, promiseOrigins, promiseIPs, promiseEmpty, promiseDomain, promiseOrigin, promiseAddress,
		promiseLimit, promise403, promiseDeleted, promiseBlock, promiseOnce,
	} {
		if !promised[promise] {
			t.Errorf("no case proves %q", promise)
		}
	}
}

type brokenEnv struct{}

func (brokenEnv) Start(context.Context, Settings) (*Stack, error) { return nil, errors.New("no") }

func TestStackThatDoesNotStartFailsItsCases(t *testing.T) {
	groups := Groups()[:1]
	results := Run(t.Context(), brokenEnv{}, groups)
	if len(results) != len(groups[0].Cases) {
		t.Fatalf("%d results for %d cases", len(results), len(groups[0].Cases))
	}
	for _, result := range results {
		if result.Err == nil {
			t.Errorf("%s passed", result.Case)
		}
	}
}

func TestMatchHeader(t *testing.T) {
	headers := http.Header{"One": {"1"}, "Two": {"1", "2"}, "Empty": {""}}
	for rule, want := range map[string]bool{
		"one: 1": true, "ONE: 1": true, "one: 2": false, "one": true, "!one": false, "!none": true, "none": false, "none: ~.*": false,
		"two": true, "two: 1": false, "two: ~.*": false, "one: ~[0-9]": true, "one: ~[2-9]": false, "one: ~[0-9][0-9]?": true,
		"empty": true, "!empty": false, "one: ~(": false,
	} {
		if err := matchHeader(headers, rule); (err == nil) != want {
			t.Errorf("%s: got %v", rule, err)
		}
	}
}
