package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/conformance"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/envoy/standin"
)

// The one table, with the built program behind a real Envoy and behind the
// stand-in. It prints how many cases passed and failed.
func TestConformance(t *testing.T) {
	passed, failed := 0, 0
	for name, front := range map[string]func(testing.TB, envoy.Options) string{
		"envoy": func(t testing.TB, o envoy.Options) string {
			return strings.TrimPrefix(envoytest.Start(t, o).URL, "http://")
		},
		"stand-in": func(t testing.TB, o envoy.Options) string {
			o.Listen = "127.0.0.1:0"
			proxy, err := standin.Start(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = proxy.Close() })
			return proxy.Address()
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "envoy" {
				envoytest.Require(t)
			}
			for i, group := range conformance.Groups() {
				t.Run(group.Name, func(t *testing.T) {
					for _, result := range conformance.RunGroup(t.Context(), &conformanceEnv{t: t, front: front}, i, group) {
						t.Run(result.Case, func(t *testing.T) {
							if result.Err != nil {
								failed++
								t.Fatal(result.Err)
							}
							passed++
						})
					}
				})
			}
		})
	}
	fmt.Printf("\n%d passed, %d failed\n", passed, failed)
}

// conformanceEnv starts stacks that last as long as a test.
type conformanceEnv struct {
	t     testing.TB
	front func(testing.TB, envoy.Options) string
}

func (e *conformanceEnv) Start(ctx context.Context, settings conformance.Settings) (*conformance.Stack, error) {
	args := settings.Serve
	socket := filepath.Join(e.t.TempDir(), "check.sock")
	if settings.Socket {
		args = append(args, "--grpc-socket", socket)
	}
	s := startServer(e.t, e.t.TempDir(), args...)
	const owner = "you"
	command(e.t, testPassword+"\n", "user", "add", owner, "--email", testUser, "--data", s.data)
	o := settings.Front
	upstream := echo.Start(e.t)
	o.Authz, o.AdminAPI, o.Upstream, o.AuthzTimeout = []string{s.grpc}, s.admin, upstream.Address(), 10*time.Second
	switch {
	case settings.Socket:
		o.Authz = []string{"unix:" + socket}
	case settings.Unreachable:
		o.Authz = []string{"127.0.0.1:1"}
	}
	stack := &conformance.Stack{
		Front: e.front(e.t, o), Upstream: upstream, Owner: owner, Username: testUser, Password: testPassword,
		Close: func() error { return nil }, // all parts end with the test
	}
	var err error
	stack.Token, err = login(ctx, "http://"+s.admin, testUser, testPassword)
	return stack, err
}

// login returns the token of a new session.
func login(ctx context.Context, url, user, password string) (string, error) {
	body, err := json.Marshal(map[string]string{"username": user, "password": password})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/users/auth/login/", strings.NewReader(string(body)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct{ Token string }
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("login: %s", response.Status)
	}
	err = json.NewDecoder(response.Body).Decode(&answer)
	return answer.Token, err
}
