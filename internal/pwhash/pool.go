package pwhash

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// times are how long the pool waits for what.
type times struct {
	// patience is for how long a hash is waited for: on processors that others
	// keep busy it is not made, and its caller wants an answer nevertheless.
	patience time.Duration
	// hung is how long a process may take for one hash, on busy processors too.
	hung time.Duration
	// idle is how long a process is kept without a hash to make.
	idle time.Duration
	// mourning is for how long no process is used after one that failed.
	mourning time.Duration
}

var usualTimes = times{patience: time.Second / 2, hung: 30 * time.Second, idle: time.Minute, mourning: time.Minute}

var (
	errLate    = errors.New("no processor was free for a hash in time")
	errStopped = errors.New("no process makes hashes for now")
)

// Options say how processes are started. Command is required.
type Options struct {
	// Command returns the command, not started, of a process that runs [Serve]
	// on its standard input and output.
	Command func(context.Context) (*exec.Cmd, error)
	// Processes is how many there are at most. Zero: one.
	Processes int
	// Failed hears why hashes are not made by other processes: of the first
	// failure and of the first after each success. Nil: nobody does.
	Failed func(error)
}

// Self returns commands that run this program anew with these arguments, with
// nothing in their environment but how many processors to use. What they write
// to their standard error goes to this process's own.
func Self(args ...string) func(context.Context) (*exec.Cmd, error) {
	return func(ctx context.Context) (*exec.Cmd, error) {
		// The file that this process was started from, also where an upgrade has
		// put another one in its place.
		path := "/proc/self/exe"
		if runtime.GOOS != "linux" {
			var err error
			if path, err = os.Executable(); err != nil {
				return nil, err
			}
		}
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Args[0] = os.Args[0]
		cmd.Env = []string{"GOMAXPROCS=1"}
		cmd.Dir = "/"
		cmd.Stderr = os.Stderr
		return cmd, nil
	}
}

// Pool has hashes made by processes of the lowest priority. Its methods may be
// called by several goroutines.
type Pool struct {
	options Options
	times   times
	jobs    chan job

	failedAt atomic.Pointer[time.Time] // nil: it went well the last time
}

type job struct {
	Request
	done chan<- result // buffered
}

type result struct {
	reply
	err error
}

// New returns a pool that makes hashes while its Run runs.
func New(o Options) *Pool {
	o.Processes = max(1, o.Processes)
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return &Pool{options: o, times: usualTimes, jobs: make(chan job)}
}

// Run keeps the processes until ctx is done, and ends them. It returns nil.
func (p *Pool) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range p.options.Processes {
		all.Go(func() { p.keep(ctx) })
	}
	all.Wait()
	return nil
}

// Hash returns the digest that r asks for and how much processor time it took,
// or an error after half a second at the latest: the caller should then make
// the hash by itself.
func (p *Pool) Hash(ctx context.Context, r Request) (digest []byte, took time.Duration, err error) {
	if at := p.failedAt.Load(); at != nil && time.Since(*at) < p.times.mourning {
		return nil, 0, errStopped
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.times.patience, errLate)
	defer cancel()
	done := make(chan result, 1)
	select {
	case p.jobs <- job{r, done}:
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	select {
	case made := <-done:
		return made.Digest, made.Took, made.err
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
}

// keep has one process do one job after the other, as long as there are any.
func (p *Pool) keep(ctx context.Context) {
	var c *child
	stop := func() {
		if c != nil {
			c.end()
			c = nil
		}
	}
	defer stop()
	unused := time.NewTimer(p.times.idle)
	defer unused.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-unused.C:
			stop()
		case j := <-p.jobs:
			var made result
			if c == nil {
				c, made.err = start(ctx, p.options.Command, p.times.hung)
			}
			if c != nil {
				if made.reply, made.err = c.hash(j.Request); made.err != nil {
					stop()
				}
			}
			j.done <- made
			p.note(ctx, made.err)
			unused.Reset(p.times.idle)
		}
	}
}

// note remembers whether the last hash was made.
func (p *Pool) note(ctx context.Context, err error) {
	if err == nil {
		p.failedAt.Store(nil)
		return
	}
	now := time.Now()
	if before := p.failedAt.Swap(&now); before == nil && ctx.Err() == nil {
		p.options.Failed(err)
	}
}

// child is a process that makes one hash at a time.
type child struct {
	hung time.Duration
	kill context.CancelFunc
	done chan struct{} // closed once it has ended

	in  io.Closer
	ask *gob.Encoder
	say *gob.Decoder
}

// start starts a process and waits until it has lowered its priority.
func start(ctx context.Context, command func(context.Context) (*exec.Cmd, error), hung time.Duration) (_ *child, err error) {
	ctx, kill := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			kill()
			err = fmt.Errorf("starting a process that makes hashes: %w", err)
		}
	}()
	cmd, err := command(ctx)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{hung: hung, kill: kill, done: make(chan struct{}), in: in, ask: gob.NewEncoder(in), say: gob.NewDecoder(out)}
	var said hello
	if err = c.within(func() error { return c.say.Decode(&said) }); err == nil && said.Failure != "" {
		err = errors.New(said.Failure)
	}
	go func() {
		_ = cmd.Wait() // killed, as a rule
		close(c.done)
	}()
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// within kills the process where f, which waits for it, takes too long.
func (c *child) within(f func() error) error {
	timer := time.AfterFunc(c.hung, c.kill)
	defer timer.Stop()
	return f()
}

func (c *child) hash(r Request) (answer reply, err error) {
	err = c.within(func() error {
		if err := c.ask.Encode(r); err != nil {
			return err
		}
		return c.say.Decode(&answer)
	})
	if err != nil {
		return reply{}, fmt.Errorf("a process that makes hashes: %w", err)
	}
	return answer, nil
}

// end ends the process and waits until it has. It makes no hash then, so that
// nothing is lost.
func (c *child) end() {
	_ = c.in.Close()
	c.kill()
	<-c.done
}
