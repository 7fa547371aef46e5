package admin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

// blockList is a small [admin.Blocks].
type blockList map[netip.Prefix]admin.Block

func (l blockList) ListBlocks(context.Context) ([]admin.Block, error) {
	var blocks []admin.Block
	for _, block := range l {
		blocks = append(blocks, block)
	}
	return blocks, nil
}

func (l blockList) Unblock(_ context.Context, addr netip.Addr) (bool, error) {
	for prefix := range l {
		if prefix.Contains(addr) {
			delete(l, prefix)
			return true, nil
		}
	}
	return false, nil
}

// backup writes n bytes, then fails if told so.
type backup struct {
	n    int
	fail error
}

func (b backup) Backup(_ context.Context, w io.Writer) (int64, error) {
	n, err := io.Copy(w, bytes.NewReader(make([]byte, b.n)))
	return n, errors.Join(err, b.fail)
}

// overBoth runs a test over a client in this process and over one that speaks
// to a server on a Unix socket.
func overBoth(t *testing.T, change func(*admin.Options), test func(*testing.T, *harness, *admin.OperatorClient)) {
	t.Run("local", func(t *testing.T) {
		h := newHarness(t, change)
		test(t, h, h.operator)
	})
	t.Run("socket", func(t *testing.T) {
		h := newHarness(t, change)
		path := filepath.Join(t.TempDir(), "control.sock")
		listener, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := admin.NewServer(h.admin.Operator(), nil)
		done := make(chan error, 1)
		go func() { done <- server.Serve(listener) }()
		client := admin.NewOperatorClient(path)
		t.Cleanup(func() {
			client.Close()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
		test(t, h, client)
	})
}

func wantProblem(t *testing.T, err error, code, location string) {
	t.Helper()
	var problem *admin.Problem
	if !errors.As(err, &problem) || problem.Code != code {
		t.Fatalf("got %v, want a problem with code %s", err, code)
	}
	if location != "" && (len(problem.Errors) == 0 || problem.Errors[0].Location != location || !strings.Contains(problem.Errors[0].Message, "expected")) {
		t.Fatalf("got %+v, want one at %s", problem.Errors, location)
	}
}

func TestOperatorUsers(t *testing.T) {
	overBoth(t, nil, func(t *testing.T, h *harness, client *admin.OperatorClient) {
		ctx := t.Context()
		eve, err := client.AddUser(ctx, admin.NewUser{Name: "Eve", Email: "Eve@Example.com", Password: "password of eve"})
		if err != nil || eve.Name != "eve" || eve.Email != "eve@example.com" || eve.ID == 0 || !eve.CreatedAt.Equal(h.clock.now()) {
			t.Fatalf("got %+v, %v", eve, err)
		}
		users, err := client.ListUsers(ctx)
		if err != nil || len(users) != 3 || users[2] != eve {
			t.Fatalf("got %+v, %v", users, err)
		}
		state, err := client.State(ctx)
		if err != nil || state.Users != 3 || state.Version != "dev" || state.StartedAt.IsZero() {
			t.Errorf("got %+v, %v", state, err)
		}
		h.login("eve", "password of eve")
		if err := client.SetPassword(ctx, "EVE@example.com", "other password of eve"); err != nil {
			t.Fatal(err)
		}
		h.do(request{path: loginPath, body: loginBody("eve", "password of eve")}).want(401, "invalid_credentials")
		h.login("eve", "other password of eve")
		for _, c := range []struct {
			name           string
			user           admin.NewUser
			code, location string
		}{
			{"name taken", admin.NewUser{Name: "eve", Password: "long enough password"}, "already_exists", "body.name"},
			{"address taken", admin.NewUser{Name: "eve2", Email: "eve@example.com", Password: "long enough password"}, "already_exists", "body.email"},
			{"another's address as a name", admin.NewUser{Name: "eve@example.com", Password: "long enough password"}, "already_exists", "body.name"},
			{"no name", admin.NewUser{Password: "long enough password"}, "invalid_request", "body.name"},
			{"bad name", admin.NewUser{Name: "e v e", Password: "long enough password"}, "invalid_request", "body.name"},
			{"bad address", admin.NewUser{Name: "mal", Email: "mal", Password: "long enough password"}, "invalid_request", "body.email"},
			{"no password", admin.NewUser{Name: "mal"}, "invalid_request", "body.password"},
			{"short password", admin.NewUser{Name: "mal", Password: "elevenchars"}, "invalid_request", "body.password"},
			{"long password", admin.NewUser{Name: "mal", Password: strings.Repeat("é", 129)}, "invalid_request", "body.password"},
		} {
			t.Run(c.name, func(t *testing.T) {
				_, err := client.AddUser(ctx, c.user)
				wantProblem(t, err, c.code, c.location)
			})
		}
		wantProblem(t, client.SetPassword(ctx, "nobody", "long enough password"), "not_found", "")
		wantProblem(t, client.SetPassword(ctx, "eve", "short"), "invalid_request", "body.password")
	})
}

func TestOperatorKeys(t *testing.T) {
	overBoth(t, nil, func(t *testing.T, h *harness, client *admin.OperatorClient) {
		ctx := t.Context()
		limit := int64(60)
		created, err := client.CreateKey(ctx, admin.OwnedKey{Owner: "ada@example.com", NewKey: admin.NewKey{
			Name: "x", AllowedIPs: []string{"203.0.113.0/24"}, RateLimitPerHour: &limit, Strict: true,
		}})
		if err != nil || created.Owner != "ada" || *created.RateLimitPerHour != 60 || !created.Strict || len(created.Warnings) != 0 {
			t.Fatalf("got %+v, %v", created, err)
		}
		if _, err := apikey.ParseSecret(created.Key); err != nil {
			t.Error(err)
		}
		if _, err := client.CreateKey(ctx, admin.OwnedKey{Owner: "bob", NewKey: admin.NewKey{Name: "y"}}); err != nil {
			t.Fatal(err)
		}
		for owner, want := range map[string]int{"": 2, "ada": 1, "BOB": 1} {
			if keys, err := client.ListKeys(ctx, owner); err != nil || len(keys) != want {
				t.Errorf("keys of %q: %+v, %v", owner, keys, err)
			}
		}
		_, err = client.ListKeys(ctx, "nobody")
		wantProblem(t, err, "not_found", "")
		_, err = client.CreateKey(ctx, admin.OwnedKey{Owner: "nobody", NewKey: admin.NewKey{Name: "y"}})
		wantProblem(t, err, "not_found", "")
		_, err = client.CreateKey(ctx, admin.OwnedKey{Owner: "ada", NewKey: admin.NewKey{Name: "y", AllowedIPs: []string{"x"}}})
		wantProblem(t, err, "invalid_request", "body.allowed_ips[0]")
		_, err = client.ListKeys(ctx, strings.Repeat("x", 255))
		wantProblem(t, err, "invalid_request", "")
		deleted, err := client.DeleteKey(ctx, created.ID)
		if err != nil || deleted.ID != created.ID || deleted.Name != "x" {
			t.Errorf("got %+v, %v", deleted, err)
		}
		_, err = client.DeleteKey(ctx, created.ID)
		wantProblem(t, err, "not_found", "")
	})
}

func TestOperatorBlocks(t *testing.T) {
	until := time.Date(2026, 3, 1, 12, 5, 0, 0, time.UTC)
	change := func(o *admin.Options) {
		o.Blocks = blockList{}
		for _, text := range []string{"192.0.2.1/32", "2001:db8::/64"} {
			prefix := netip.MustParsePrefix(text)
			o.Blocks.(blockList)[prefix] = admin.Block{Prefix: prefix, Failures: 10, Until: until}
		}
	}
	overBoth(t, change, func(t *testing.T, _ *harness, client *admin.OperatorClient) {
		blocks, err := client.ListBlocks(t.Context())
		if err != nil || len(blocks) != 2 {
			t.Fatalf("got %+v, %v", blocks, err)
		}
		for _, block := range blocks {
			if block.Address != "192.0.2.1" && block.Address != "2001:db8::/64" || block.Failures != 10 || !block.Until.Equal(until) {
				t.Errorf("got %+v", block)
			}
		}
		if err := client.Unblock(t.Context(), netip.MustParseAddr("2001:db8::7")); err != nil {
			t.Error(err)
		}
		wantProblem(t, client.Unblock(t.Context(), netip.MustParseAddr("2001:db8::7")), "not_found", "")
		wantProblem(t, client.Unblock(t.Context(), netip.Addr{}), "invalid_request", "body.address")
		if blocks, err = client.ListBlocks(t.Context()); err != nil || len(blocks) != 1 {
			t.Errorf("got %+v, %v", blocks, err)
		}
	})
}

func TestWhatWasNotSetUp(t *testing.T) {
	overBoth(t, nil, func(t *testing.T, _ *harness, client *admin.OperatorClient) {
		_, err := client.ListBlocks(t.Context())
		wantProblem(t, err, "not_implemented", "")
		wantProblem(t, client.Unblock(t.Context(), netip.MustParseAddr("192.0.2.1")), "not_implemented", "")
		_, err = client.Backup(t.Context(), io.Discard)
		wantProblem(t, err, "not_implemented", "")
	})
}

func TestBackup(t *testing.T) {
	for _, c := range []struct {
		name   string
		backup backup
		ok     bool
	}{
		{"small", backup{n: 10}, true},
		{"large", backup{n: 10 << 20}, true},
		{"fails at once", backup{fail: errors.New("the disk is away")}, false},
		{"fails on the way", backup{n: 1 << 20, fail: errors.New("the disk is away")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			overBoth(t, func(o *admin.Options) { o.Backup = c.backup }, func(t *testing.T, h *harness, client *admin.OperatorClient) {
				var out bytes.Buffer
				n, err := client.Backup(t.Context(), &out)
				if c.ok && (err != nil || n != int64(c.backup.n) || out.Len() != c.backup.n) {
					t.Errorf("%d bytes of %d, %v", n, c.backup.n, err)
				}
				if !c.ok {
					if err == nil {
						t.Fatal("a copy that broke off was taken for one")
					}
					if strings.Contains(err.Error(), "disk") || !strings.Contains(h.log.String(), "the disk is away") {
						t.Errorf("the cause is for the log, not for the client: %v", err)
					}
				}
			})
		})
	}
}

// A caller that goes away ends its wait, whatever the handler does.
func TestLocalClientHeedsItsContext(t *testing.T) {
	hold := make(chan struct{})
	client := admin.NewLocalOperatorClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(hold)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.State(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-hold
}

func TestClientOfNobody(t *testing.T) {
	client := admin.NewOperatorClient(filepath.Join(t.TempDir(), "control.sock"))
	var problem *admin.Problem
	if _, err := client.State(t.Context()); err == nil || errors.As(err, &problem) {
		t.Errorf("got %v", err)
	}
	stranger := admin.NewLocalOperatorClient(http.NotFoundHandler())
	if _, err := stranger.State(t.Context()); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
}

// The operator API stays off the public handler, and asks for no session.
func TestOperatorDescription(t *testing.T) {
	h := newHarness(t, nil)
	w := httptest.NewRecorder()
	h.admin.Operator().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://operator/operator/v1/openapi.json", nil))
	for _, path := range []string{"users", "users/password", "keys", "keys/delete/", "blocks/", "blocks/remove/", "state", "store/backup"} {
		if !strings.Contains(w.Body.String(), fmt.Sprintf("%q", "/operator/v1/"+path)) {
			t.Errorf("%s is not described", path)
		}
	}
	for _, path := range []string{"users", "state", "keys"} {
		h.do(request{method: "GET", path: "/operator/v1/" + path}).want(404, "not_found")
	}
}

func TestSweep(t *testing.T) {
	swept := make(chan struct{}, 1)
	h := newHarness(t, func(o *admin.Options) {
		o.SessionTTL = time.Hour
		o.Store = hookedStore{Store: o.Store, sweep: func() { swept <- struct{}{} }}
	})
	h.login("ada", adaPassword)
	h.clock.advance(30 * time.Minute)
	live := h.login("ada", adaPassword)
	h.clock.advance(45 * time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.admin.Run(ctx) }()
	<-swept
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.do(request{method: "GET", path: listPath, token: live}).want(200, "")
	h.clock.advance(time.Hour)
	if n, err := h.store.DeleteExpiredSessions(t.Context(), h.clock.now()); n != 1 || err != nil {
		t.Errorf("%d sessions were left to the sweep, want the live one; %v", n, err)
	}
}
