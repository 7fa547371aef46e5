// Package envoytest runs a real Envoy for a test, as net/http/httptest runs a
// server.
//
//	upstream := echo.Start(t)
//	front := envoytest.Start(t, envoy.Options{Authz: []string{grpcAddress}, Upstream: upstream.Address()})
//	response, err := http.Get(front.URL + "/api/tokens/")
//
// Where no Envoy is installed the test is skipped, or fails with
// TOKENKIT_REQUIRE=1 (see package real).
package envoytest

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/internal/real"
)

// startTimeout is how long an Envoy may take to serve on a busy machine.
const startTimeout = 60 * time.Second

// Instance is a running Envoy.
type Instance struct {
	*envoy.Process
	// URL is "http://host:port" of the front.
	URL string
	// AdminURL is the same of Envoy's own admin interface.
	AdminURL string

	log *log
}

// Require returns the path of an Envoy.
func Require(t testing.TB) string {
	t.Helper()
	program, err := envoy.Find()
	if err != nil {
		real.Missing(t, err.Error())
	}
	return program
}

// Start runs an Envoy with the configuration that o describes, on free ports
// of the loopback address where o names none, until the test ends. The log of
// Envoy is shown if the test fails.
func Start(t testing.TB, o envoy.Options) *Instance {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.EnvoyAdmin == "" {
		o.EnvoyAdmin = "127.0.0.1:0"
	}
	config, err := envoy.Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return StartConfig(t, config)
}

// StartConfig is [Start] with a configuration, which must have an admin
// interface.
func StartConfig(t testing.TB, config []byte) *Instance {
	t.Helper()
	program := Require(t)
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	output := &log{}
	process, err := envoy.StartConfig(ctx, config, envoy.ProcessOptions{Program: program, Log: output})
	if err != nil {
		t.Fatal(err)
	}
	instance := &Instance{Process: process, URL: "http://" + process.Address, AdminURL: "http://" + process.AdminAddress, log: output}
	t.Cleanup(func() {
		if err := process.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", output)
		}
	})
	return instance
}

// Log returns what the Envoy has written, its access log among it where that
// is "/dev/stdout".
func (i *Instance) Log() string { return i.log.String() }

// log keeps the first MiB of what is written to it.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const maxLog = 1 << 20

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := maxLog - l.text.Len(); room > 0 {
		l.text.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
