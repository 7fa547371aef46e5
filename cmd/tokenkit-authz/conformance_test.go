package main

import (
	"context"
	"errors"
	"flag"
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

// onlyGroup runs one group of the table: go test -run Conformance -group blocks.
var onlyGroup = flag.String("group", "", "run only this group of the conformance table")

// startFront starts a proxy and returns its host:port and what ends it.
type startFront func(ctx context.Context, o envoy.Options) (string, func() error, error)

// stackEnv starts the real program behind a front.
type stackEnv struct {
	t     *testing.T
	front startFront
}

var _ conformance.Env = stackEnv{}

func (e stackEnv) Start(ctx context.Context, settings conformance.Settings) (*conformance.Stack, error) {
	t := e.t
	args := settings.Serve
	o := settings.Front
	if settings.Socket {
		socket := filepath.Join(t.TempDir(), "grpc.sock")
		args = append(args, "--grpc-socket", socket)
		o.Authz = []string{"unix:" + socket}
	}
	k := &stack{server: startServer(t, t.TempDir(), args...)}
	command(t, testPassword+"\n", "user", "add", testUser, "--data", k.data)
	upstream := echo.Start(t)
	if settings.Unreachable {
		o.Authz = []string{"unix:" + filepath.Join(t.TempDir(), "none.sock")}
	}
	if o.Authz == nil {
		o.Authz = []string{k.grpc}
	}
	// What is decided is tested here, not how fast a shared disk is.
	o.AuthzTimeout = 10 * time.Second
	o.Listen, o.AdminAPI, o.Upstream = "127.0.0.1:0", k.admin, upstream.Address()
	address, stop, err := e.front(ctx, o)
	if err != nil {
		return nil, err
	}
	k.front = "http://" + address
	var login struct{ Token string }
	k.call(t, "POST", "/api/users/auth/login/", `{"username":"`+testUser+`","password":"`+testPassword+`"}`, http.StatusOK, &login)
	return &conformance.Stack{
		Front: address, Upstream: upstream, Token: login.Token, Owner: testUser, Username: testUser, Password: testPassword,
		Close: func() error {
			err := errors.Join(stop(), upstream.Close())
			k.stop(t)
			for _, secret := range []string{login.Token, testPassword, "tk_"} {
				if strings.Contains(k.logs.String(), secret) {
					err = errors.Join(err, fmt.Errorf("the service's log holds a secret"))
				}
			}
			return err
		},
	}, nil
}

func TestConformanceOfEnvoy(t *testing.T) {
	program := envoytest.Require(t)
	runConformance(t, func(ctx context.Context, o envoy.Options) (string, func() error, error) {
		process, err := envoy.Start(ctx, o, envoy.ProcessOptions{Program: program})
		if err != nil {
			return "", nil, err
		}
		return process.Address, process.Stop, nil
	})
}

func TestConformanceOfTheStandIn(t *testing.T) {
	runConformance(t, func(_ context.Context, o envoy.Options) (string, func() error, error) {
		server, err := standin.Start(o)
		if err != nil {
			return "", nil, err
		}
		return server.Address(), server.Close, nil
	})
}

func runConformance(t *testing.T, front startFront) {
	passed, failed := 0, 0
	for i, group := range conformance.Groups() {
		if *onlyGroup != "" && group.Name != *onlyGroup {
			continue
		}
		t.Run(group.Name, func(t *testing.T) {
			for _, result := range conformance.RunGroup(t.Context(), stackEnv{t, front}, i, group) {
				if result.Err != nil {
					failed++
					t.Errorf("%s: %v", result.Case, result.Err)
				} else {
					passed++
				}
			}
		})
	}
	t.Logf("%d passed, %d failed", passed, failed)
}
