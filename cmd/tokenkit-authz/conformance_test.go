package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/conformance"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/envoy/standin"
	"github.com/tokenkithq/authz/internal/etcdtest"
	"github.com/tokenkithq/authz/internal/redistest"
)

// The one table, with the built program behind a real Envoy and behind the
// stand-in, and with three of it that share an etcd and a Redis, or an etcd alone. It prints how
// many cases passed and failed.
func TestConformance(t *testing.T) {
	passed, failed := 0, 0
	realEnvoy := func(t testing.TB, o envoy.Options) string {
		return strings.TrimPrefix(envoytest.Start(t, o).URL, "http://")
	}
	standIn := func(t testing.TB, o envoy.Options) string {
		o.Listen = "127.0.0.1:0"
		proxy, err := standin.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = proxy.Close() })
		return proxy.Address()
	}
	modes := []conformanceMode{
		{name: "envoy", front: realEnvoy},
		{name: "stand-in", front: standIn},
		{name: "three replicas", front: realEnvoy, replicas: 3},
	}
	if os.Getenv("TOKENKIT_CLUSTER") != "" { // as make e2e does
		modes = append(modes, conformanceMode{name: "three replicas, all in etcd", front: realEnvoy, replicas: 3, limitsInEtcd: true})
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			if mode.name != "stand-in" {
				envoytest.Require(t)
			}
			if mode.replicas > 1 {
				mode.etcd, mode.redis = etcdtest.Start(t, 1), redistest.Start(t, durably...)
			}
			for i, group := range conformance.Groups() {
				t.Run(group.Name, func(t *testing.T) {
					for _, result := range conformance.RunGroup(t.Context(), &conformanceEnv{t, mode}, i, group) {
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

// conformanceMode is a way to run the table.
type conformanceMode struct {
	name     string
	front    func(testing.TB, envoy.Options) string
	replicas int // more than one share the rest
	// limitsInEtcd says that limits and blocks are not in Redis.
	limitsInEtcd bool
	etcd         *etcdtest.Cluster
	redis        *redistest.Server
}

// conformanceEnv starts stacks that last as long as a test.
type conformanceEnv struct {
	t testing.TB
	conformanceMode
}

func (e *conformanceEnv) Start(ctx context.Context, settings conformance.Settings) (*conformance.Stack, error) {
	var shared []string
	if e.replicas > 1 {
		name := "/" + rand.Text()
		engine := strings.Replace(e.etcd.Members[0].Endpoint, "http", "etcd", 1) + name
		shared = []string{"--store", engine, "--limits", "redis://" + e.redis.Address, "--limits-prefix", name}
		if e.limitsInEtcd {
			shared = []string{"--store", engine, "--limits", engine + "-limits"}
		}
	}
	o := settings.Front
	o.Authz = nil
	var s *server // the last of them, while the first is told of the user
	const owner = "you"
	for i := range max(1, e.replicas) {
		args := slices.Concat(settings.Serve, shared)
		socket := filepath.Join(e.t.TempDir(), "check.sock")
		if settings.Socket {
			args = append(args, "--grpc-socket", socket)
		}
		s = startServer(e.t, e.t.TempDir(), args...)
		if i == 0 {
			command(e.t, testPassword+"\n", "user", "add", owner, "--email", testUser, "--data", s.data)
		}
		switch {
		case settings.Socket:
			o.Authz = append(o.Authz, "unix:"+socket)
		case settings.Unreachable:
			o.Authz = []string{"127.0.0.1:1"}
		default:
			o.Authz = append(o.Authz, s.grpc)
		}
	}
	upstream := echo.Start(e.t)
	o.AdminAPI, o.Upstream, o.AuthzTimeout = s.admin, upstream.Address(), 10*time.Second
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
