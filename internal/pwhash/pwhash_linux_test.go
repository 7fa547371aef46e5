package pwhash

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// What the program of these tests is started with to be another process.
const (
	serveArgument = "serve-hashes"
	// the same without a lower priority, so that a busy machine does not count
	usualArgument = "serve-hashes-at-the-usual-priority"
	highArgument  = "serve-hashes-at-a-high-priority"
)

// longTimes are those of a machine that has much else to do, on which processes
// of the lowest priority wait for long.
var longTimes = times{patience: 5 * time.Minute, hung: 5 * time.Minute, idle: 5 * time.Minute, mourning: 5 * time.Minute}

var errPriority = errors.New("the priority is not to be lowered")

func TestMain(m *testing.M) {
	if len(os.Args) != 2 {
		goleak.VerifyTestMain(m)
		return
	}
	var err error
	switch os.Args[1] {
	case serveArgument:
		err = Serve(os.Stdin, os.Stdout)
	case usualArgument:
		err = serve(os.Stdin, os.Stdout, func() error { return nil })
	case highArgument:
		err = serve(os.Stdin, os.Stdout, func() error { return errPriority })
	default:
		goleak.VerifyTestMain(m)
		return
	}
	if err != nil {
		os.Exit(1)
	}
}

// pool is one that runs, whose processes and failures are known.
type pool struct {
	*Pool
	started chan *exec.Cmd
	failed  chan error
	stop    func()
}

// run runs a pool of processes that are started by command.
func run(t *testing.T, processes int, waits times, command func(context.Context) (*exec.Cmd, error)) *pool {
	t.Helper()
	p := &pool{started: make(chan *exec.Cmd, 10), failed: make(chan error, 10)}
	p.Pool = New(Options{
		Processes: processes,
		Failed:    func(err error) { p.failed <- err },
		Command: func(ctx context.Context) (*exec.Cmd, error) {
			cmd, err := command(ctx)
			if err == nil {
				p.started <- cmd
			}
			return cmd, err
		},
	})
	p.times = waits
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	for {
		if _, done, err := p.begin(); err == nil {
			done()
			break
		}
	}
	p.stop = func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(p.stop)
	return p
}

var asked = Request{Password: []byte("a long password"), Salt: []byte("sixteen of salt."), MemoryKiB: 64, Passes: 1, Parallelism: 1, Length: 32}

// hash wants a hash to be made by another process.
func (p *pool) hash(t *testing.T) {
	t.Helper()
	digest, took, err := p.Hash(t.Context(), asked)
	if err != nil || !bytes.Equal(digest, asked.Digest()) || took < 0 || took > time.Minute {
		t.Errorf("got %x within %v, %v", digest, took, err)
	}
}

// process returns the id of the next process that was started.
func (p *pool) process(t *testing.T) int {
	t.Helper()
	select {
	case cmd := <-p.started:
		return cmd.Process.Pid
	default:
		t.Fatal("no process was started")
		return 0
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the process goes on")
		}
	}
}

// signal sends a signal to a process; one that stops it has done so then.
func signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
	if s == syscall.SIGSTOP {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// One process makes one hash after the other, also where there may be more, and
// ends with the pool.
func TestHash(t *testing.T) {
	p := run(t, 4, longTimes, Self(serveArgument))
	for range 3 {
		p.hash(t)
	}
	pid := p.process(t)
	if len(p.started) > 0 {
		t.Error("another process was started")
	}
	p.stop()
	gone(t, pid)
	if len(p.failed) > 0 {
		t.Errorf("stopping was told as a failure: %v", <-p.failed)
	}
	if _, _, err := p.Hash(t.Context(), asked); !errors.Is(err, errStopped) {
		t.Errorf("a pool that has ended: %v", err)
	}
}

// There are as many processes as may be, and no more.
func TestHashesAtOnce(t *testing.T) {
	p := run(t, 2, longTimes, Self(usualArgument))
	slow := asked
	slow.MemoryKiB, slow.Passes = 19456, 4
	results := make(chan error)
	for range 4 {
		go func() {
			_, _, err := p.Hash(context.Background(), slow)
			results <- err
		}()
	}
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if got := len(p.started); got != 2 {
		t.Errorf("%d processes were started, want 2", got)
	}
}

// A process that nothing is asked of ends; the next hash has a new one.
func TestIdle(t *testing.T) {
	waits := longTimes
	waits.idle = 10 * time.Millisecond
	p := run(t, 1, waits, Self(usualArgument))
	p.hash(t)
	gone(t, p.process(t))
	p.hash(t)
	gone(t, p.process(t))
	if len(p.failed) > 0 {
		t.Errorf("that was told as a failure: %v", <-p.failed)
	}
}

// A hash that was not made in time is given up, and nothing else is: once there
// are processors again the same process makes hashes.
func TestBusyProcessors(t *testing.T) {
	p := run(t, 1, longTimes, Self(usualArgument))
	p.hash(t)
	pid := p.process(t)
	signal(t, pid, syscall.SIGSTOP)
	p.times.patience = 200 * time.Millisecond
	for range 2 { // one is being made, the other waits for it
		if digest, _, err := p.Hash(t.Context(), asked); !errors.Is(err, errLate) || digest != nil {
			t.Errorf("without a processor: %x, %v", digest, err)
		}
	}
	left, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.Hash(left, asked); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has left: %v", err)
	}
	p.times.patience = longTimes.patience
	signal(t, pid, syscall.SIGCONT)
	p.hash(t)
	if len(p.started) > 0 || len(p.failed) > 0 {
		t.Errorf("%d new processes, %d failures", len(p.started), len(p.failed))
	}
}

// A process that hangs or was killed is replaced, after some time in which
// nobody waits for one. It is told once.
func TestFailing(t *testing.T) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		hung   time.Duration
		says   string
	}{
		"hangs":  {syscall.SIGSTOP, 10 * time.Second, "no answer within 10s"},
		"killed": {syscall.SIGKILL, longTimes.hung, ""}, // or a broken pipe, where it was too late to ask
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waits := longTimes
			waits.hung, waits.mourning = c.hung, time.Hour
			p := run(t, 1, waits, Self(usualArgument))
			p.hash(t)
			pid := p.process(t)
			signal(t, pid, c.signal)
			if _, _, err := p.Hash(t.Context(), asked); err == nil || errors.Is(err, errLate) || errors.Is(err, errStopped) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("without a process: %v, want %q", err, c.says)
			}
			gone(t, pid)
			for range 2 {
				if _, _, err := p.Hash(t.Context(), asked); !errors.Is(err, errStopped) {
					t.Errorf("right after a failure: %v", err)
				}
			}
			if len(p.failed) != 1 || len(p.started) != 0 {
				t.Errorf("told %d times, %d new processes", len(p.failed), len(p.started))
			}
			long := time.Now().Add(-2 * time.Hour)
			p.failedAt.Store(&long)
			p.hash(t)
			if p.failedAt.Load() != nil {
				t.Error("the failure is remembered after a success")
			}
		})
	}
}

// Where no process can be started, or none of a low priority, nothing is hashed
// by others.
func TestNoProcess(t *testing.T) {
	for name, c := range map[string]struct {
		command func(context.Context) (*exec.Cmd, error)
		want    string
	}{
		"no program": {func(ctx context.Context) (*exec.Cmd, error) {
			return exec.CommandContext(ctx, "/nothing/here"), nil
		}, "no such file"},
		"no command":    {func(context.Context) (*exec.Cmd, error) { return nil, io.ErrUnexpectedEOF }, io.ErrUnexpectedEOF.Error()},
		"another one":   {func(ctx context.Context) (*exec.Cmd, error) { return exec.CommandContext(ctx, "echo", "hello"), nil }, "starting"},
		"high priority": {Self(highArgument), errPriority.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			p := run(t, 1, longTimes, c.command)
			if _, _, err := p.Hash(t.Context(), asked); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			select {
			case <-p.failed:
			case <-time.After(20 * time.Second):
				t.Error("nobody was told")
			}
			long := time.Now().Add(-time.Hour)
			p.failedAt.Store(&long)
			if _, _, err := p.Hash(t.Context(), asked); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("an hour later: %v, want %q", err, c.want)
			}
			if p.stop(); len(p.failed) > 0 {
				t.Errorf("the same was told again: %v", <-p.failed)
			}
			if len(p.started) > 0 {
				if cmd := <-p.started; cmd.Process != nil {
					gone(t, cmd.Process.Pid)
				}
			}
		})
	}
}

// A process ends with the pipe from the one that started it; what it cannot
// read it does not repeat.
func TestServeEnds(t *testing.T) {
	var said bytes.Buffer
	if err := serve(strings.NewReader(""), &said, func() error { return nil }); err != nil {
		t.Error(err)
	}
	err := serve(strings.NewReader("canary-password"), io.Discard, func() error { return nil })
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("garbage: %v", err)
	}
	var half bytes.Buffer
	if err := gob.NewEncoder(&half).Encode(asked); err != nil {
		t.Fatal(err)
	}
	half.Truncate(half.Len() - 5)
	if err := serve(&half, io.Discard, func() error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half of a request: %v", err)
	}
	if err := serve(strings.NewReader(""), io.Discard, func() error { return fmt.Errorf("no: %w", errPriority) }); !errors.Is(err, errPriority) {
		t.Errorf("a priority that is not lowered: %v", err)
	}
}

// All threads of a process that makes hashes give way to all others, and
// nothing that is asked of it can be seen from outside.
func TestLowPriority(t *testing.T) {
	p := run(t, 1, longTimes, Self(serveArgument))
	p.hash(t)
	pid := p.process(t)
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(tasks) < 3 {
		t.Fatal(tasks, err)
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unix.SchedGetAttr(id, 0); err != nil || got.Policy != unix.SCHED_IDLE {
			t.Errorf("thread %d: %+v, %v", id, got, err)
		}
	}
	for name, want := range map[string]string{
		"environ": "GOMAXPROCS=1\x00",
		"cmdline": os.Args[0] + "\x00" + serveArgument + "\x00",
	} {
		if got, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if own, err := unix.SchedGetAttr(0, 0); err != nil || own.Policy != unix.SCHED_NORMAL {
		t.Errorf("this process: %+v, %v", own, err)
	}
}
