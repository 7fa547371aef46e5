package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenkithq/authz/admin"
)

// The whole way of a key over a real connection, which is used again and again.
func TestOverTheWire(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(o *admin.Options) { o.ListenAddress = listener.Addr().String() })
	server := admin.NewServer(h.admin.Handler(), nil)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	transport := &http.Transport{MaxConnsPerHost: 1}
	defer func() {
		transport.CloseIdleConnections()
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	do := func(method, path, token, body string) *response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+listener.Addr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return &response{t, answer.StatusCode, answer.Header, string(text)}
	}
	var session struct{ Token string }
	do("POST", loginPath, "", loginBody("ada", adaPassword)).want(200, "").decode(&session)
	do("POST", createPath, session.Token, `{"name":"x"}`).want(201, "")
	do("POST", createPath, session.Token, strings.Repeat(" ", 1<<20)).want(413, "body_too_large")
	do("POST", createPath, "", strings.Repeat(" ", 1<<10)).want(401, "unauthenticated")
	if list := do("GET", listPath, session.Token, "").want(200, ""); !strings.Contains(list.body, `"name":"x"`) {
		t.Errorf("got %s", list.body)
	}
	do("POST", deletePath, session.Token, `{"key_id":1}`).want(200, "")
	do("POST", logoutPath, session.Token, "").want(204, "")
	do("GET", listPath, session.Token, "").want(401, "unauthenticated")
}
