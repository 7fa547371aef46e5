package envoy_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

func TestProcess(t *testing.T) {
	program := envoytest.Require(t)
	defer goleak.VerifyNone(t)
	process, err := envoy.Start(t.Context(), envoy.Options{Listen: "127.0.0.1:0"}, envoy.ProcessOptions{Program: program})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + process.Address)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d with nothing behind it", response.StatusCode)
	}
	if err := process.Stop(); err != nil {
		t.Error(err)
	}
	select {
	case <-process.Exited():
	default:
		t.Error("it has not ended")
	}
	if err := syscall.Kill(process.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the process is still there: %v", err)
	}
}

func TestProcessThatEndsByItself(t *testing.T) {
	program := envoytest.Require(t)
	process, err := envoy.Start(t.Context(), envoy.Options{Listen: "127.0.0.1:0"}, envoy.ProcessOptions{Program: program})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(process.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-process.Exited()
	if err := process.Stop(); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %v", err)
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	program := envoytest.Require(t)
	var log bytes.Buffer
	_, err := envoy.StartConfig(t.Context(), []byte("nonsense: 1"), envoy.ProcessOptions{Program: program, Log: &log})
	if err == nil || !strings.Contains(err.Error(), "nonsense") || !strings.Contains(log.String(), "nonsense") {
		t.Errorf("got %v, want what Envoy says", err)
	}
}

// A program that never serves is ended with the context.
func TestProcessThatNeverServes(t *testing.T) {
	defer goleak.VerifyNone(t)
	program := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := envoy.StartConfig(ctx, nil, envoy.ProcessOptions{Program: program})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
