package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stat returns what the system says of a process after its name: its state, the
// process that started it, and so on. There is nothing where it has ended.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)
}

// helpers returns the processes that s has started.
func (s *server) helpers(t *testing.T) (pids []int) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range processes {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		if of := stat(pid); len(of) > 1 && of[1] == strconv.Itoa(s.cmd.Process.Pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// helper returns the one process that s has started, once that gives way to all
// others.
func (s *server) helper(t *testing.T) int {
	t.Helper()
	pids := s.helpers(t)
	if len(pids) != 1 {
		t.Fatalf("serve has started the processes %v, want one\n%s", pids, s.logs)
	}
	eventually(t, "the helper has the lowest priority", func() bool {
		got, err := unix.SchedGetAttr(pids[0], 0)
		return err == nil && got.Policy == unix.SCHED_IDLE
	})
	return pids[0]
}

// Passwords are hashed by a process that gives way to all others. People sign
// in whatever becomes of it, and it does not outlive the service. That the
// program was replaced on disk makes no difference.
func TestHashingApart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := prepareServer(t, data)
	upgraded := filepath.Join(t.TempDir(), "tokenkit-authz")
	if err := os.Link(s.cmd.Path, upgraded); err != nil {
		t.Fatal(err)
	}
	s.cmd.Path, s.cmd.Args[0] = upgraded, upgraded
	s.start(t)
	signIn := func(when string) {
		t.Helper()
		if _, err := login(t.Context(), "http://"+s.admin, testUser, testPassword); err != nil {
			t.Errorf("logging in %s: %v", when, err)
		}
		if _, err := login(t.Context(), "http://"+s.admin, testUser, "not the password"); err == nil {
			t.Errorf("a wrong password was right %s", when)
		}
	}
	if err := os.WriteFile(upgraded+".new", []byte("of another version"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(upgraded+".new", upgraded); err != nil {
		t.Fatal(err)
	}
	command(t, testPassword+"\n", "user", "add", testUser, "--data", data)
	signIn("after an upgrade")
	pid := s.helper(t)
	for _, name := range []string{"cmdline", "environ"} {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name)); err != nil || strings.Contains(string(text), testPassword) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	signIn("while it is stopped")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	signIn("after it was killed")
	eventually(t, "the helper is reaped", func() bool { return len(stat(pid)) == 0 })

	s.stop(t)
	s = startServer(t, data)
	signIn("after a restart")
	pid = s.helper(t)
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil { // as with pkill
		t.Fatal(err)
	}
	signIn("after a hangup")
	if again := s.helper(t); again != pid {
		t.Error("a hangup ended the helper")
	}
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	s.cmd = nil
	eventually(t, "the helper of a service that was killed ends", func() bool {
		of := stat(pid)
		return len(of) == 0 || of[0] == "Z" // nobody has asked for its end yet
	})
}
