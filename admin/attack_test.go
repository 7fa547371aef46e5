package admin_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/store"
)

// A session that was left behind ends, also for one who keeps using another.
func TestAttackIdleSession(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.SessionTTL, o.SessionIdle = 12*time.Hour, 30*time.Minute })
	left, used := h.login("ada", adaPassword), h.login("ada", adaPassword)
	for range 23 {
		h.clock.advance(29 * time.Minute)
		h.get("me/", used).want(200, "")
	}
	var sessions []admin.SessionInfo
	h.get("sessions/", used).want(200, "").decode(&sessions)
	if len(sessions) != 1 || !sessions[0].Current {
		t.Errorf("listed %+v", sessions)
	}
	h.get("me/", left).want(401, "unauthenticated")
	h.clock.advance(30 * time.Minute)
	h.get("me/", used).want(401, "unauthenticated")
	// One that is used all the time ends too.
	used = h.login("ada", adaPassword)
	for range 11 * 60 / 29 {
		h.clock.advance(29 * time.Minute)
		h.get("me/", used).want(200, "")
	}
	h.clock.advance(29 * time.Minute)
	h.clock.advance(12*time.Hour - 23*29*time.Minute)
	h.get("me/", used).want(401, "unauthenticated")
}

// A token from before a login is of no use after it: whoever planted one does
// not get the session that their victim begins.
func TestAttackSessionFixation(t *testing.T) {
	h := newHarness(t, nil)
	planted := "tks_" + strings.Repeat("A", 43)
	for _, path := range []string{loginPath, authPath + "login/cookie/"} {
		got := h.do(request{path: path, body: loginBody("ada", adaPassword), header: http.Header{
			"Cookie": {"tokenkit-session=" + planted}, "Authorization": {"Bearer " + planted},
		}}).want(200, "")
		if strings.Contains(got.body+fmt.Sprint(got.header), planted) {
			t.Errorf("%s: the planted token was taken up", path)
		}
		h.get("me/", planted).want(401, "unauthenticated")
	}
}

// open are the operations that need no session. Every other one is refused
// without, whatever else the request has; a new one is, too.
var open = []string{
	"GET /livez", "GET /readyz", "POST /api/users/auth/login/", "POST /api/users/auth/login/cookie/", "POST /api/users/auth/accept-invitation/",
}

// operations are all that the API describes, with the ids in their paths.
func (h *harness) operations() (all []struct{ method, path, name string }) {
	h.t.Helper()
	var described struct{ Paths map[string]map[string]any }
	h.do(request{method: "GET", path: "/openapi.json"}).want(200, "").decode(&described)
	for _, path := range slices.Sorted(maps.Keys(described.Paths)) {
		for method := range described.Paths[path] {
			method = strings.ToUpper(method)
			all = append(all, struct{ method, path, name string }{method, strings.NewReplacer("{id}", "1", "{key_id}", "1").Replace(path), method + " " + path})
		}
	}
	if len(all) < 25 {
		h.t.Fatalf("only %d operations", len(all))
	}
	return all
}

func TestAttackWithoutSession(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.Blocks = blockList{} })
	ended := h.login("ada", adaPassword)
	h.do(request{path: logoutPath, token: ended}).want(204, "")
	for _, op := range h.operations() {
		if slices.Contains(open, op.name) {
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			h.t = t
			for _, header := range []http.Header{
				nil, {"Authorization": {"Bearer " + ended}}, {"Cookie": {"tokenkit-session=" + ended}}, {"Authorization": {"Bearer"}},
				{"X-Client-Ip": {"127.0.0.1"}, "X-User": {"ada"}, "X-Api-Key-Owner": {"ada"}},
			} {
				r := request{method: op.method, path: op.path, header: header}
				if op.method != "GET" {
					r.body = "{}"
				}
				h.do(r).want(401, "unauthenticated")
			}
		})
	}
}

// A member reaches nothing of another's, by whichever operation and id, and
// learns not even that it is there.
func TestAttackOthersObjects(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.Blocks = blockList{} })
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	key := h.createKey(ada, `{"name":"of ada","notes":"secret plans","metadata":{"team":"x"}}`)
	second := h.createKey(ada, `{"name":"of ada, too"}`) // for what would be gone by then
	own := h.createKey(bob, `{"name":"of bob"}`)
	var sessions []admin.SessionInfo
	h.get("sessions/", ada).want(200, "").decode(&sessions)
	var sent admin.SentInvitation
	h.post("users/invite/", `{"name":"carol"}`, ada).want(201, "").decode(&sent)
	const none = "999999"
	for _, c := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"read", "GET", "api-keys/ID/", "", 404},
		{"change", "PATCH", "api-keys/ID/", `{"enabled":false}`, 404},
		{"take over", "PATCH", "api-keys/ID/", `{"owner":"bob"}`, 422},
		{"rotate", "POST", "api-keys/ID/rotate/", `{"grace_seconds":0}`, 404},
		{"explain", "POST", "api-keys/ID/explain/", `{}`, 404},
		{"delete", "POST", "api-keys/delete/", `{"key_id":ID}`, 404},
		{"delete in a batch", "POST", "api-keys/batch-delete/", `{"key_ids":[OWN,ID]}`, 404},
		{"list of another", "GET", "api-keys/?owner=ada", "", 403},
		{"list of all", "GET", "api-keys/?owner=*", "", 403},
		{"another's sessions", "POST", "sessions/revoke/", `{"session_id":"` + sessions[0].ID + `"}`, 404},
		{"users", "GET", "users/", "", 403},
		{"rise", "POST", "users/update/", `{"user_id":2,"role":"owner"}`, 403},
		{"delete a user", "POST", "users/delete/", `{"user_id":1}`, 403},
		{"invite", "POST", "users/invite/", `{"name":"mallory","role":"owner"}`, 403},
		{"invitations", "GET", "invitations/", "", 403},
		{"revoke an invitation", "POST", "invitations/revoke/", `{"invitation_id":"` + sent.ID + `"}`, 403},
		{"blocks", "GET", "blocked/", "", 403},
		{"unblock", "POST", "blocked/remove/", `{"address":"192.0.2.1"}`, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.t = t
			with := func(id string) *response {
				fill := strings.NewReplacer("ID", id, "OWN", fmt.Sprint(own.ID))
				path := fill.Replace(c.path)
				return h.do(request{method: c.method, path: authPath + path, body: fill.Replace(c.body), token: bob})
			}
			id := fmt.Sprint(key.ID)
			if c.name == "delete in a batch" {
				id = fmt.Sprint(second.ID)
			}
			got := with(id)
			if got.status != c.status || strings.Contains(got.body, "of ada") || strings.Contains(got.body, "secret plans") {
				t.Errorf("got %d %s", got.status, got.body)
			}
			if absent := with(none); absent.status != got.status || strings.ReplaceAll(absent.body, none, id) != got.body {
				t.Errorf("one that is not there is answered differently: %d %s, and %d %s", absent.status, absent.body, got.status, got.body)
			}
		})
	}
	h.t = t
	var left admin.Key
	h.do(request{method: "GET", path: onKey(key.ID, ""), token: ada}).want(200, "").decode(&left)
	if left.Name != "of ada" || !left.Enabled || left.Owner != "ada" {
		t.Errorf("the key is now %+v", left)
	}
	h.do(request{method: "GET", path: onKey(own.ID, ""), token: bob}).want(200, "")
	h.get("me/", ada).want(200, "")
}

// Of the audit log a member sees what they did, and nothing of others.
func TestAttackAuditOfOthers(t *testing.T) {
	h := newHarness(t, nil)
	ada, bob := h.login("ada", adaPassword), h.login("bob", bobPassword)
	h.createKey(ada, `{"name":"plans of ada"}`)
	h.setRole(2, store.RoleMember)
	for _, query := range []string{"", "?user=ada", "?by=ada", "?key_id=1", "?action=key"} {
		if got := h.get("audit/"+query, bob); strings.Contains(got.body, "plans of ada") {
			t.Errorf("%s: %s", query, got.body)
		}
	}
	if got := h.get("audit/", ada).want(200, ""); !strings.Contains(got.body, "plans of ada") {
		t.Errorf("an owner does not see it: %s", got.body)
	}
}

// A viewer who sees all changes nothing: not by any operation that there is,
// but for what is the viewer's own.
func TestAttackViewer(t *testing.T) {
	h := newHarness(t, func(o *admin.Options) { o.Blocks = blockList{} })
	ada := h.login("ada", adaPassword)
	h.createKey(ada, `{"name":"of ada"}`)
	h.setRole(2, store.RoleViewer)
	bob := h.login("bob", bobPassword)
	own := []string{"sessions/revoke/", "sessions/revoke-others/", "change-password/", "logout/", "explain/", "login/", "login/cookie/", "accept-invitation/"}
	tried := 0
	for _, op := range h.operations() {
		if op.method == "GET" || slices.ContainsFunc(own, func(suffix string) bool { return strings.HasSuffix(op.path, suffix) }) {
			continue
		}
		tried++
		// Admission comes before the body is looked at.
		if got := h.do(request{method: op.method, path: op.path, body: "{}", token: bob}); got.status != 403 {
			t.Errorf("%s: got %d %s", op.name, got.status, got.body)
		}
	}
	if tried < 8 {
		t.Errorf("only %d operations were tried", tried)
	}
}

// A client that sends its request byte by byte, or stops in the middle, is let
// go in the end.
func TestAttackSlowClients(t *testing.T) {
	for name, first := range map[string]string{
		"nothing":  "",
		"headers":  "POST " + loginPath + " HTTP/1.1\r\nHost: localhost\r\nX-Long: ",
		"a body":   "POST " + loginPath + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
		"answered": "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, nil) // its store has goroutines that are not of this bubble
			synctest.Test(t, func(t *testing.T) {
				client, conn := net.Pipe()
				listener := oneConn{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
				listener.conns <- conn
				server := admin.NewServer(h.admin.Handler(), nil)
				served := make(chan error, 1)
				go func() { served <- server.Serve(listener) }()
				began, sent := time.Now(), make(chan struct{})
				go func() {
					defer close(sent)
					if _, err := io.WriteString(client, first); err != nil || name == "nothing" || name == "answered" {
						return
					}
					for {
						time.Sleep(time.Second)
						if _, err := io.WriteString(client, "a"); err != nil {
							return
						}
					}
				}()
				_, _ = io.Copy(io.Discard, client) // until it is closed
				if took := time.Since(began); took > 2*time.Minute {
					t.Errorf("it was let go after %v", took)
				}
				_ = client.Close()
				_ = server.Close()
				<-served
				<-sent
			})
		})
	}
}

// oneConn is a listener that connections are put into.
type oneConn struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l oneConn) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l oneConn) Close() error   { close(l.closed); return nil }
func (l oneConn) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// However many log in at once, for whichever users and from whichever
// addresses, few passwords are hashed at the same time.
func TestAttackParallelLogins(t *testing.T) {
	var now, most atomic.Int64
	h := newHarness(t, func(o *admin.Options) {
		o.Passwords = admin.PasswordCost{MemoryKiB: 4096, Passes: 1, Parallelism: 1}
		o.Working = func() func() {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			return func() { now.Add(-1) }
		}
	})
	var group sync.WaitGroup
	var mutex sync.Mutex
	answered := map[int]int{}
	for i := range 1000 {
		group.Go(func() {
			got := h.do(request{path: loginPath, body: loginBody(fmt.Sprintf("nobody%d", i), "a guess of a password"), from: fmt.Sprintf("192.0.%d.%d:1", i/250, i%250)})
			mutex.Lock()
			defer mutex.Unlock()
			answered[got.status]++
		})
	}
	group.Wait()
	if limit := int64(admin.HashesAtOnce()); most.Load() > limit || most.Load() == 0 {
		t.Errorf("%d passwords were hashed at once, want 1 to %d", most.Load(), limit)
	}
	if answered[401]+answered[503] != 1000 || answered[401] == 0 {
		t.Errorf("answered %v", answered)
	}
}
