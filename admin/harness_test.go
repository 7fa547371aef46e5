package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
)

const (
	adaPassword  = "canary-password-of-ada"
	bobPassword  = "canary-password-of-bob"
	testLoopback = "127.0.0.1:50000"
)

// A clock that tests move by hand.
type clock struct {
	mutex sync.Mutex
	at    time.Time
}

func (c *clock) now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.at = c.at.Add(d)
}

// lockedBuffer collects log lines of many goroutines.
type lockedBuffer struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.String()
}

// harness is an Admin over a real store with two users, ada and bob.
type harness struct {
	t        *testing.T
	admin    *admin.Admin
	store    admin.Store
	clock    *clock
	log      *lockedBuffer
	operator *admin.OperatorClient
	// described is what the API says of itself.
	described description
}

// cheap keeps tests fast; the default cost has tests of its own.
var cheap = admin.PasswordCost{MemoryKiB: 8, Passes: 1, Parallelism: 1}

func newHarness(t *testing.T, change func(*admin.Options)) *harness {
	t.Helper()
	h := &harness{t: t, store: openStore(t), clock: &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, log: &lockedBuffer{}}
	options := admin.Options{
		Store: h.store, Now: h.clock.now, Passwords: cheap,
		SessionIdle: 12 * time.Hour, // so that clocks may go on
		Logger:      slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&options)
		h.store = options.Store
	}
	var err error
	if h.admin, err = admin.New(options); err != nil {
		t.Fatal(err)
	}
	h.operator = admin.NewLocalOperatorClient(h.admin.Operator())
	h.described = h.describe()
	for _, user := range []admin.NewUser{
		{Name: "ada", Email: "ada@example.com", Password: adaPassword}, {Name: "bob", Password: bobPassword},
	} {
		if _, err := h.operator.AddUser(context.Background(), user); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// request describes one call of the public API; zero fields are usual.
type request struct {
	method, path, body, token, host, from string
	header                                http.Header
	context                               context.Context // nil: that of the test
}

type response struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (h *harness) do(r request) *response {
	h.t.Helper()
	if r.method == "" {
		r.method = http.MethodPost
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	q := httptest.NewRequest(r.method, "http://localhost"+r.path, body)
	if r.context != nil {
		q = q.WithContext(r.context)
	}
	if r.host != "" {
		q.Host = r.host
	}
	q.RemoteAddr = testLoopback
	if r.from != "" {
		q.RemoteAddr = r.from
	}
	if r.body != "" {
		q.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		q.Header.Set("Authorization", "Bearer "+r.token)
	}
	for name, values := range r.header {
		q.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.admin.Handler().ServeHTTP(w, q)
	h.checkDocumented(r.method, r.path, w)
	return &response{h.t, w.Code, w.Header(), w.Body.String()}
}

// want fails unless the status is as told, and for a refusal the code.
func (r *response) want(status int, code string) *response {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("got %d, want %d: %s", r.status, status, r.body)
	}
	if code == "" {
		return r
	}
	if media := r.header.Get("Content-Type"); media != "application/problem+json" {
		r.t.Errorf("a refusal of type %q", media)
	}
	if p := r.problem(); p.Code != code || p.Status != status || p.Title != http.StatusText(status) {
		r.t.Errorf("got %s, want code %s", r.body, code)
	}
	return r
}

func (r *response) problem() admin.Problem {
	r.t.Helper()
	var p admin.Problem
	r.decode(&p)
	return p
}

func (r *response) decode(out any) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.body), out); err != nil {
		r.t.Fatalf("%v in %s", err, r.body)
	}
}

func (h *harness) login(name, password string) string {
	h.t.Helper()
	body, err := json.Marshal(map[string]string{"username": name, "password": password})
	if err != nil {
		h.t.Fatal(err)
	}
	var answer struct{ Token string }
	h.do(request{path: "/api/users/auth/login/", body: string(body)}).want(http.StatusOK, "").decode(&answer)
	if len(answer.Token) != 47 {
		h.t.Fatalf("a token of %d characters", len(answer.Token))
	}
	return answer.Token
}
