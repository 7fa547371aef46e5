// Package bare_test keeps the example right: its units are valid, confine the
// service, and pass the sockets on that it expects.
package bare_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
	"github.com/tokenkithq/authz/examples/exampletest"
	"github.com/tokenkithq/authz/internal/real"
)

var units = []string{"tokenkit-authz.service", "tokenkit-authz-grpc.socket", "tokenkit-authz-admin.socket"}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// setting returns the values of a setting of a unit.
func setting(t *testing.T, unit, name string) []string {
	t.Helper()
	var values []string
	for _, match := range regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(read(t, unit), -1) {
		values = append(values, match[1])
	}
	return values
}

// What the unit confines may still lower its priority, which is among what it
// forbids otherwise.
func TestHelperMayGiveWay(t *testing.T) {
	const call = "sched_setscheduler"
	filters := setting(t, "tokenkit-authz.service", "SystemCallFilter")
	if len(filters) == 0 || filters[len(filters)-1] != call {
		t.Errorf("the filters are %q, want %s at the end", filters, call)
	}
	resources, err := exec.Command(real.Require(t, "systemd-analyze"), "syscall-filter", "@resources").CombinedOutput()
	if err != nil || !strings.Contains(string(resources), call) {
		t.Errorf("@resources is %q, %v", resources, err)
	}
}

func TestUnitsAreValid(t *testing.T) {
	analyze := real.Require(t, "systemd-analyze")
	dir := t.TempDir()
	program := filepath.Join(dir, "tokenkit-authz")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, unit := range units {
		text := strings.ReplaceAll(read(t, unit), "/usr/local/bin/tokenkit-authz", program)
		path := filepath.Join(dir, unit)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no", "--recursive-errors=one"}, paths...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// 10 is 1.0 on its scale from 0, confined, to 10, not at all.
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=10", "--no-pager", paths[0]).CombinedOutput()
	if err != nil {
		t.Errorf("the service is too exposed: %v\n%s", err, out)
	}
}

// The sockets of the units, passed to the program as systemd does.
func TestSockets(t *testing.T) {
	program := exampletest.Build(t)
	t.Run("are taken over", func(t *testing.T) { takeOver(t, program) })
	t.Run("are refused where they cannot be meant", func(t *testing.T) { refuse(t, program) })
}

func takeOver(t *testing.T, program string) {
	var names []string
	var files []*os.File
	for _, unit := range units[1:] {
		if got := setting(t, unit, "ListenStream"); len(got) != 1 || !strings.HasPrefix(got[0], "127.0.0.1:") {
			t.Fatalf("%s listens on %q", unit, got)
		}
		names = append(names, setting(t, unit, "FileDescriptorName")...)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		t.Cleanup(func() { _, _ = file.Close(), listener.Close() })
	}
	notified, notices := listenForNotices(t)
	args := strings.Fields(setting(t, units[0], "ExecStart")[0])
	if args[1] != "serve" {
		t.Fatalf("it runs %q", args)
	}
	data := slices.Index(args, "--data")
	args = append(slices.Delete(args[2:], data-2, data), "--drain", "0")
	service := exampletest.ServeWith(t, program, func(cmd *exec.Cmd) {
		// The process is told its own number, which only a shell knows before.
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.ExtraFiles = files
		cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES="+strings.Join(names, ":"), "NOTIFY_SOCKET="+notified)
	}, args...)
	if got := notices(); got != "READY=1" {
		t.Errorf("systemd hears %q at first", got)
	}
	for i, got := range []string{service.Check, service.Admin} {
		listener, err := net.FileListener(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if want := listener.Addr().String(); got != want {
			t.Errorf("%s is at %s, want %s", names[i], got, want)
		}
		_ = listener.Close()
	}
	if answer := exampletest.Do(t, http.MethodGet, "http://"+service.Admin+"/readyz"); answer.Status != http.StatusOK {
		t.Errorf("it answers %d when asked whether it is ready", answer.Status)
	}
	key := service.NewKey(t)
	upstream := echo.Start(t)
	front := envoytest.Start(t, envoy.Options{Authz: []string{service.Check}, AdminAPI: service.Admin, Upstream: upstream.Address(), AuthzTimeout: 10 * time.Second})
	if answer := exampletest.Do(t, http.MethodGet, front.URL+"/api/tokens/", "Api-Key", key); answer.Status != http.StatusOK {
		t.Errorf("status %d with a key: %s", answer.Status, answer.Body)
	}
	if answer := exampletest.Do(t, http.MethodGet, front.URL+"/api/tokens/"); answer.Status != http.StatusUnauthorized {
		t.Errorf("status %d without a key", answer.Status)
	}
	service.Stop(t)
	if got := notices(); got != "STOPPING=1" {
		t.Errorf("systemd hears %q at last", got)
	}
}

// listenForNotices plays the part of systemd that hears of a service's state.
func listenForNotices(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	return path, func() string {
		if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 4096)
		n, err := socket.Read(text)
		if err != nil {
			t.Fatalf("nothing was said: %v", err)
		}
		return string(text[:n])
	}
}

func refuse(t *testing.T, program string) {
	for _, c := range []struct{ name, names, want string }{
		{"another name", "http", `socket "http" of systemd`},
		{"no name", "", `expected FileDescriptorName=grpc, admin or metrics`},
		{"two of a kind", "grpc:grpc", "expected one of its kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program,
				"serve", "--data", filepath.Join(t.TempDir(), "data"), "--admin-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0")
			for range strings.Split(c.names, ":") {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				file, err := listener.(*net.TCPListener).File()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _, _ = file.Close(), listener.Close() }()
				cmd.ExtraFiles = append(cmd.ExtraFiles, file)
			}
			cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(cmd.ExtraFiles)), "LISTEN_FDNAMES="+c.names)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("got %v, %s, want %s", err, out, c.want)
			}
		})
	}
}
