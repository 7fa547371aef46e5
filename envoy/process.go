package envoy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ProcessOptions say how to run an Envoy.
type ProcessOptions struct {
	// Program is the path of the Envoy. Empty: what [Find] finds.
	Program string
	// Concurrency is the number of worker threads. Zero: 1.
	Concurrency int
	// Log receives what the Envoy writes. Nil: nobody does.
	Log io.Writer
	// LogLevel is the level of Envoy's own log. Empty: "warning".
	LogLevel string
}

// Process is a running Envoy. It must be ended with [Process.Stop].
type Process struct {
	// Address is the host:port that its first listener got.
	Address string
	// AdminAddress is the host:port that its admin interface got.
	AdminAddress string

	cmd    *exec.Cmd
	dir    string
	exited chan struct{}
	err    error // of the exit, once exited is closed
	said   *tail

	stop    sync.Once
	stopErr error
}

// Start runs an Envoy with the configuration that o describes and waits until
// it serves. Ports may be 0 for any free one; an admin interface on a free port
// is added where o has none. Where ctx ends before Envoy serves, Envoy is
// ended.
func Start(ctx context.Context, o Options, p ProcessOptions) (*Process, error) {
	orDefault(&o.EnvoyAdmin, "127.0.0.1:0")
	config, err := Render(o)
	if err != nil {
		return nil, err
	}
	return StartConfig(ctx, config, p)
}

// StartConfig is [Start] with a configuration, which must have an admin
// interface.
func StartConfig(ctx context.Context, config []byte, o ProcessOptions) (_ *Process, err error) {
	if o.Program == "" {
		if o.Program, err = Find(); err != nil {
			return nil, err
		}
	}
	orDefault(&o.LogLevel, "warning")
	orDefault(&o.Concurrency, 1)
	dir, err := os.MkdirTemp("", "envoy-")
	if err != nil {
		return nil, fmt.Errorf("starting Envoy: %w", err)
	}
	p := &Process{dir: dir, exited: make(chan struct{}), said: &tail{next: o.Log}}
	configPath, adminPath := filepath.Join(dir, "envoy.yaml"), filepath.Join(dir, "admin-address")
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Envoy: %w", err), os.RemoveAll(dir))
	}
	// The process outlives ctx, which bounds the start only.
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), o.Program, "--config-path", configPath, "--admin-address-path", adminPath,
		"--disable-hot-restart", "--concurrency", strconv.Itoa(o.Concurrency), "--log-level", o.LogLevel)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Envoy: %w", err), os.RemoveAll(dir))
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	if err := p.untilReady(ctx, adminPath); err != nil {
		return nil, errors.Join(fmt.Errorf("starting Envoy: %w", err), p.Stop())
	}
	return p, nil
}

// untilReady asks the admin interface every few milliseconds.
func (p *Process) untilReady(ctx context.Context, adminPath string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not serve: %w: %s", context.Cause(ctx), p.said)
		case <-p.exited:
			return fmt.Errorf("it ended at once: %w: %s", errOr(p.err, "status 0"), p.said)
		case <-tick.C:
		}
		if p.AdminAddress == "" {
			address, err := os.ReadFile(adminPath)
			if err != nil || len(address) == 0 { // not written yet
				continue
			}
			p.AdminAddress = strings.TrimSpace(string(address))
		}
		if _, err := p.ask(ctx, "/ready"); err != nil {
			continue
		}
		return p.findAddress(ctx)
	}
}

func errOr(err error, text string) error {
	if err != nil {
		return err
	}
	return errors.New(text)
}

func (p *Process) findAddress(ctx context.Context) error {
	answer, err := p.ask(ctx, "/listeners?format=json")
	if err != nil {
		return err
	}
	var list struct {
		Listeners []struct {
			Local struct {
				Socket struct {
					Address string
					Port    int `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(answer, &list); err != nil || len(list.Listeners) == 0 {
		return fmt.Errorf("reading the listeners: %w", errOr(err, "there are none"))
	}
	socket := list.Listeners[0].Local.Socket
	p.Address = net.JoinHostPort(socket.Address, strconv.Itoa(socket.Port))
	return nil
}

// ask makes a call to the admin interface.
func (p *Process) ask(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.AdminAddress+path, nil)
	if err != nil {
		return nil, err
	}
	request.Close = true // leave no connection behind
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return body, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the Envoy has ended, for whatever reason.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop ends the Envoy and waits for that; after 5 s it is killed. An Envoy that
// had ended by itself before is an error. Further calls return what the first
// one did.
func (p *Process) Stop() error {
	p.stop.Do(func() { p.stopErr = p.end() })
	return p.stopErr
}

func (p *Process) end() error {
	defer func() { _ = os.RemoveAll(p.dir) }()
	select {
	case <-p.exited:
		return fmt.Errorf("the Envoy had ended by itself: %w: %s", errOr(p.err, "status 0"), p.said)
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may just have ended
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	return nil
}

// tail passes on what is written and keeps the end of it for error messages.
type tail struct {
	next io.Writer
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if extra := len(t.kept) - tailBytes; extra > 0 {
		t.kept = bytes.Clone(t.kept[extra:])
	}
	if t.next == nil {
		return len(b), nil
	}
	return t.next.Write(b)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}
