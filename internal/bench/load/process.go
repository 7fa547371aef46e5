//go:build linux

package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// answer is what a process says of a job.
type answer struct {
	Result *Result
	Error  string
}

// Serve does the jobs that it reads from in, one after the other, until there
// are no more. It is the other end of a [Process].
func Serve(in io.Reader, out io.Writer) error {
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var j Job
		if err := decoder.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a job: %w", err)
		}
		var a answer
		var err error
		if a.Result, err = Run(j); err != nil {
			a.Error = err.Error()
		}
		if err := encoder.Encode(a); err != nil {
			return fmt.Errorf("writing a result: %w", err)
		}
	}
}

// Process makes load in a process of its own. It must be closed.
type Process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	encoder *json.Encoder
	decoder *json.Decoder
}

// Start runs a program that calls [Serve] on its standard input and output.
// It is killed when ctx is done.
func Start(ctx context.Context, program string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.CommandContext(ctx, program, args...)}
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting load: %w", err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting load: %w", err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting load: %w", err)
	}
	p.in, p.encoder, p.decoder = in, json.NewEncoder(in), json.NewDecoder(out)
	return p, nil
}

// Run does a job there; see [Run]. One job is done at a time.
func (p *Process) Run(j Job) (*Result, error) {
	if err := p.encoder.Encode(j); err != nil {
		return nil, fmt.Errorf("sending a job: %w", err)
	}
	var a answer
	if err := p.decoder.Decode(&a); err != nil {
		return nil, fmt.Errorf("waiting for a result: %w", err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Result, nil
}

// Close ends the process.
func (p *Process) Close() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}
