package boltfiletest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// requireFUSE is a variable of the environment: where it is set, a machine
// that cannot mount FUSE fails the tests instead of skipping them.
const requireFUSE = "TOKENKIT_REQUIRE_FUSE"

const sessionVariable = "BOLTFILETEST_SESSION" // test name, tab, folder

// Disk is what a test in [OnDisk] does to its disk.
type Disk struct {
	// Dir is the folder that the disk holds.
	Dir string
}

// OnDisk runs fn in a process of its own, on a disk that obeys its [Disk]. fn
// must be the whole of its test. Where FUSE cannot be had the test is skipped,
// unless TOKENKIT_REQUIRE_FUSE is set.
func OnDisk(t *testing.T, fn func(t *testing.T, disk *Disk)) {
	t.Helper()
	if dir := sessionDir(t); dir != "" {
		fn(t, &Disk{Dir: dir})
		return
	}
	runSession(t)
}

// sessionDir returns the disk's folder in the process under test.
func sessionDir(t *testing.T) string {
	name, dir, _ := strings.Cut(os.Getenv(sessionVariable), "\t")
	if name != t.Name() {
		return ""
	}
	return dir
}

// runSession mounts a disk, runs the present test on it in a new process, and
// returns what the disk has seen.
func runSession(t *testing.T) *disk {
	t.Helper()
	dir := t.TempDir()
	d, server, err := mount(dir)
	if err != nil {
		if os.Getenv(requireFUSE) != "" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED, and %s would make this a failure: %v", requireFUSE, err)
	}
	defer func() {
		d.mu.Lock()
		d.heal()
		d.mu.Unlock()
		if err := server.Unmount(); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	}()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.CommandContext(ctx, program, "-test.run="+pattern, "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), sessionVariable+"="+t.Name()+"\t"+dir)
	// A process that waits for a stalled disk cannot be killed before that is
	// healed.
	cmd.Cancel = func() error {
		d.mu.Lock()
		d.heal()
		d.mu.Unlock()
		return cmd.Process.Kill()
	}
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS: "+t.Name()) {
		t.Fatalf("the process on the disk: %v\n%s", err, output)
	}
	return d
}

// Fail makes calls fail with errno: "write", "sync", "truncate", "create",
// "rename" or "syncdir". The first after of them succeed, then times fail, or
// all of them where times is -1.
func (d *Disk) Fail(call string, after, times int, errno syscall.Errno) error {
	return d.command(fmt.Sprintf("fail %s %d %d %d", call, after, times, errno))
}

// Stall makes calls wait until [Disk.Heal], but for the first ones.
func (d *Disk) Stall(call string, after int) error {
	return d.command(fmt.Sprintf("stall %s %d", call, after))
}

// Heal ends all that Fail and Stall began.
func (d *Disk) Heal() error { return d.command("heal") }

// Lose takes the power away: all that was not synced is gone. No file may be
// open.
func (d *Disk) Lose() error { return d.command("lose") }

// Acknowledge tells the disk that the change with this number was
// acknowledged, in the order of its other calls.
func (d *Disk) Acknowledge(number int) error { return d.tell(ackName, strconv.Itoa(number)) }

func (d *Disk) command(line string) error { return d.tell(controlName, line) }

func (d *Disk) tell(name, line string) (err error) {
	f, err := os.OpenFile(filepath.Join(d.Dir, name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("telling the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteAt([]byte(line), 0); err != nil {
		return fmt.Errorf("telling the disk %q: %w", line, err)
	}
	return nil
}
