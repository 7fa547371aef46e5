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
	"slices"
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

var usualTimes = times{patience: time.Second / 2, hung: 5 * time.Minute, idle: time.Minute, mourning: time.Minute}

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
// to their standard error is lost: it would keep this process's own open for
// longer than this process is there.
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
		return cmd, nil
	}
}

// Pool has hashes made by processes of the lowest priority. Its methods may be
// called by several goroutines.
type Pool struct {
	options Options
	times   times
	turns   chan struct{} // as many as there may be processes

	mu      sync.Mutex
	running context.Context // of Run; nil: it does not run
	work    sync.WaitGroup  // grows while it runs
	idle    []*child        // the one that was used last is used next

	failedAt atomic.Pointer[time.Time] // nil: it went well the last time
}

// New returns a pool that makes hashes while its Run runs.
func New(o Options) *Pool {
	o.Processes = max(1, o.Processes)
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return &Pool{options: o, times: usualTimes, turns: make(chan struct{}, o.Processes)}
}

// Run keeps the processes until ctx is done, and ends them. It returns nil.
func (p *Pool) Run(ctx context.Context) error {
	p.mu.Lock()
	p.running = ctx
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.running = nil
	p.mu.Unlock()
	p.work.Wait()
	for _, c := range p.idle { // which nobody else has any more
		c.end()
	}
	p.idle = nil
	return nil
}

// begin returns the context of what is done by a pool that runs; done must be
// called at its end.
func (p *Pool) begin() (ctx context.Context, done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return nil, nil, errStopped
	}
	p.work.Add(1)
	return p.running, p.work.Done, nil
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
	select {
	case p.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	running, done, err := p.begin()
	if err != nil {
		<-p.turns
		return nil, 0, err
	}
	var made reply
	finished := make(chan error, 1)
	go func() {
		defer done()
		answer, err := p.hash(running, r)
		made = answer
		<-p.turns
		finished <- err
	}()
	select {
	case err := <-finished:
		return made.Digest, made.Took, err
	case <-ctx.Done(): // it is made nevertheless, for nobody
		return nil, 0, context.Cause(ctx)
	}
}

// hash has one process make a hash; it starts one where none is idle.
func (p *Pool) hash(ctx context.Context, r Request) (answer reply, err error) {
	c := p.take()
	if c == nil {
		if c, err = start(ctx, p.options.Command, p.times.hung); err != nil {
			p.failed(ctx, err)
			return reply{}, err
		}
	}
	if answer, err = c.hash(r); err != nil {
		c.end()
		p.failed(ctx, err)
		return reply{}, err
	}
	p.failedAt.Store(nil)
	p.give(c)
	return answer, nil
}

// take returns the idle process that was used last, or nil.
func (p *Pool) take() *child {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	c.unused.Stop()
	return c
}

// give takes back a process, which ends when it is not used for some time.
func (p *Pool) give(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.unused = time.AfterFunc(p.times.idle, func() { p.drop(c) })
	p.idle = append(p.idle, c)
}

// drop ends an idle process.
func (p *Pool) drop(c *child) {
	_, done, err := p.begin()
	if err != nil {
		return // it is ended with all others
	}
	defer done()
	p.mu.Lock()
	i := slices.Index(p.idle, c)
	if i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	p.mu.Unlock()
	if i >= 0 { // else it is in use again
		c.end()
	}
}

// failed tells of a hash that was not made, where those before were, and
// remembers it.
func (p *Pool) failed(ctx context.Context, err error) {
	now := time.Now()
	if before := p.failedAt.Swap(&now); before == nil && ctx.Err() == nil {
		p.options.Failed(err)
	}
}

// child is a process that makes one hash at a time.
type child struct {
	hung   time.Duration
	cmd    *exec.Cmd
	kill   context.CancelFunc
	ended  chan struct{} // closed once it has
	unused *time.Timer   // of an idle one

	in  io.Closer
	out io.Closer
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
	out, answers, err := os.Pipe() // which Wait does not close while it is read
	if err != nil {
		return nil, err
	}
	cmd.Stdout = answers
	err = cmd.Start()
	_ = answers.Close()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	c := &child{hung: hung, cmd: cmd, kill: kill, ended: make(chan struct{}), in: in, out: out, ask: gob.NewEncoder(in), say: gob.NewDecoder(out)}
	go func() {
		_ = cmd.Wait() // killed, as a rule
		close(c.ended)
	}()
	var said hello
	if err = c.within(func() error { return c.say.Decode(&said) }); err == nil && said.Failure != "" {
		err = errors.New(said.Failure)
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// within kills the process where f, which waits for it, takes too long. Its
// error says how the process has ended.
func (c *child) within(f func() error) error {
	timer := time.AfterFunc(c.hung, c.kill)
	err := f()
	if !timer.Stop() {
		return fmt.Errorf("killed: no answer within %v", c.hung)
	}
	if errors.Is(err, io.EOF) {
		select {
		case <-c.ended:
			return errors.New(c.cmd.ProcessState.String())
		case <-time.After(endTime):
		}
	}
	return err
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

// endTime is for how long the end of a process is waited for: a busy machine
// gives it no processor for that, either.
const endTime = time.Second

// end ends the process. It makes no hash then, so that nothing is lost.
func (c *child) end() {
	_ = c.in.Close()
	c.kill()
	select {
	case <-c.ended:
	case <-time.After(endTime):
	}
	_ = c.out.Close()
}
