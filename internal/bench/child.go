//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// child is a server in a process of its own.
type child struct {
	address string // that it is reached at
	data    string // its data folder, if it has one
	cmd     *exec.Cmd
	exited  chan struct{}
	err     error // once exited is closed
	log     string
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stopTime is how long a server may take to end.
const stopTime = 20 * time.Second

func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(stopTime):
		_ = c.cmd.Process.Kill()
		<-c.exited
		return fmt.Errorf("%s did not end in %v", c.cmd.Path, stopTime)
	}
	return nil
}

// launch runs a program until the lab stops, and waits until it writes where it
// is reached: pattern finds that in what it writes. Unless cores is zero, it is
// what GOMAXPROCS is set to.
func (l *lab) launch(cores int, pattern *regexp.Regexp, program string, args ...string) (*child, error) {
	file, err := os.CreateTemp(l.dir, "log-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	c := &child{exited: make(chan struct{}), log: file.Name()}
	c.cmd = exec.CommandContext(context.WithoutCancel(l.ctx), program, args...)
	c.cmd.Stdout, c.cmd.Stderr = file, file
	if cores > 0 {
		c.cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(cores))
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	l.children = append(l.children, c)
	ctx, cancel := context.WithTimeoutCause(l.ctx, stopTime, errors.New("it does not say where it is reached"))
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.exited:
			return nil, fmt.Errorf("%s ended: %w: %s", filepath.Base(program), c.err, c.said())
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), context.Cause(ctx), c.said())
		}
		if match := pattern.FindSubmatch(c.said()); match != nil {
			c.address = string(match[1])
			return c, nil
		}
	}
}

// said returns the beginning of what the child has written.
func (c *child) said() []byte {
	file, err := os.Open(c.log)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, 8<<10))
	if err != nil {
		return nil
	}
	return bytes.TrimSpace(text)
}

var (
	servingLine = regexp.MustCompile(`msg=serving .* grpc=(\S+) grpc_socket=`)
	addressLine = regexp.MustCompile(`(?m)^address (\S+)$`)
)

// serve runs the program over a copy of a store.
func (l *lab) serve(from *keyStore, cores int, args ...string) (*child, error) {
	data, err := os.MkdirTemp(l.dir, "data-")
	if err != nil {
		return nil, err
	}
	if err := from.copyTo(data); err != nil {
		return nil, err
	}
	return l.serveOn(data, cores, args...)
}

// serveOn runs the program over a data folder.
func (l *lab) serveOn(data string, cores int, args ...string) (*child, error) {
	args = append([]string{"serve", "--data", data, "--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain", "0s"}, args...)
	c, err := l.launch(cores, servingLine, l.program, args...)
	if err != nil {
		return nil, err
	}
	c.data = data
	return c, nil
}

// itself runs this program as one of the other servers.
func (l *lab) itself(cores int, role string, args ...string) (*child, error) {
	return l.launch(cores, addressLine, l.self, append([]string{role}, args...)...)
}

var residentLine = regexp.MustCompile(`(?m)^RssAnon:\s+(\d+) kB$`)

// residentMiB returns the memory of a process that is its own, not that which
// it has mapped of files: the system takes that back when it needs it.
func residentMiB(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	match := residentLine.FindSubmatch(status)
	if match == nil {
		return 0
	}
	kib, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0
	}
	return kib >> 10
}
