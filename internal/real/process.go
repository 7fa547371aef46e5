package real

import (
	"os/exec"
	"syscall"
	"testing"
)

// Process is a real program that a test may kill, pause and run again. The
// zero Process does not run.
type Process struct{ cmd *exec.Cmd }

// Run starts cmd. The process must not run.
func (p *Process) Run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd = cmd
}

// Kill ends it at once, as a crash does.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.End()
}

// Pause stops it without ending it, until [Process.Resume].
func (p *Process) Pause(t testing.TB) { p.signal(t, syscall.SIGSTOP) }

// Resume lets it go on.
func (p *Process) Resume(t testing.TB) { p.signal(t, syscall.SIGCONT) }

func (p *Process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// End waits for a process that was killed, and kills one that was not.
func (p *Process) End() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}
