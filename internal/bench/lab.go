//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/internal/bench/load"
)

// lab is everything that runs while something is measured.
type lab struct {
	*settings
	ctx      context.Context // of the whole run
	out      io.Writer
	self     string // this program
	dir      string // for files of this run
	load     *load.Process
	children []*child
	envoys   []*envoy.Process
	last     string // line of the report
}

func newLab(ctx context.Context, s *settings, out io.Writer) (_ *lab, err error) {
	l := &lab{settings: s, ctx: ctx, out: out}
	if l.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	if _, err := os.Stat(s.program); err != nil {
		return nil, fmt.Errorf("-program: %w", err)
	}
	if s.program, err = filepath.Abs(s.program); err != nil {
		return nil, fmt.Errorf("-program: %w", err)
	}
	if l.dir, err = os.MkdirTemp("", "tokenkit-bench-"); err != nil {
		return nil, err
	}
	if l.load, err = load.Start(ctx, l.self, roleLoad); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// stop ends what a part has started.
func (l *lab) stop() error {
	var err error
	for _, e := range l.envoys {
		err = errors.Join(err, e.Stop())
	}
	for _, c := range slices.Backward(l.children) {
		err = errors.Join(err, c.stop())
	}
	l.envoys, l.children = nil, nil
	return err
}

func (l *lab) close() error {
	err := l.stop()
	if l.load != nil {
		err = errors.Join(err, l.load.Close())
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

func (l *lab) print(format string, args ...any) { fmt.Fprintf(l.out, format+"\n", args...) }

// measure runs the parts that were asked for.
func (l *lab) measure() error {
	l.print("%s, %d cores, %s; Envoy with %d worker(s); medians of %d rounds", machine(), runtime.NumCPU(), runtime.Version(), l.concurrency, l.settings.rounds)
	for _, p := range parts() {
		if !slices.Contains(l.parts, p.name) {
			continue
		}
		began := time.Now()
		l.print("\n== %s: %s", p.name, p.about)
		if err := errors.Join(p.run(l), l.stop()); err != nil {
			if cause := context.Cause(l.ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("%s: %w", p.name, err)
		}
		l.print("(%.0fs)", time.Since(began).Seconds())
	}
	if l.last != "" {
		l.print("\n%s", l.last)
	}
	return nil
}

// machine returns the name of the processor.
func machine() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// line is one case of a table: a job that is done once a round.
type line struct {
	name    string
	job     load.Job
	envoy   int // process ids of those at work; zero: none
	server  int
	during  func(ctx context.Context) (int, error) // goes on meanwhile; returns how often
	results []*load.Result
	often   []float64 // what during returned, a second
	rss     int       // of the server afterwards, MiB
}

// inRounds does the jobs of all lines in each round. Each round begins with
// another one, and every other round goes backwards, so that none always comes
// after the same one. Wrong answers are an error: a server that refuses is
// fast.
func (l *lab) inRounds(lines ...*line) error {
	for round := range l.settings.rounds {
		for i := range lines {
			at := lines[(round+i)%len(lines)]
			if round%2 == 1 {
				at = lines[(round+len(lines)-1-i)%len(lines)]
			}
			if err := l.once(at, uint64(round)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lab) once(at *line, seed uint64) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	job := at.job
	job.Seed = seed
	if job.Duration == 0 {
		job.Duration = l.duration
	}
	if job.Warmup == 0 {
		job.Warmup = job.Duration / 5
	}
	job.PIDs = nil
	for _, pid := range []int{at.envoy, at.server} {
		if pid == 0 {
			pid = os.Getpid() // waits meanwhile
		}
		job.PIDs = append(job.PIDs, pid)
	}
	var result *load.Result
	// A machine that is very busy may give a case no time at all.
	for range 3 {
		var err error
		if result, err = l.runBeside(at, job); err != nil {
			return fmt.Errorf("%s: %w", at.name, err)
		}
		if result.Requests > 0 {
			break
		}
	}
	if result.Failed > 0 || result.Requests == 0 {
		return fmt.Errorf("%s: %d of %d answers were not as expected: %v", at.name, result.Failed, result.Requests, result.Statuses)
	}
	at.results = append(at.results, result)
	if at.server != 0 {
		at.rss = residentMiB(at.server)
	}
	return nil
}

// runBeside does a job while the line's other work goes on.
func (l *lab) runBeside(at *line, job load.Job) (*load.Result, error) {
	if at.during == nil {
		return l.load.Run(job)
	}
	type done struct {
		times int
		err   error
	}
	ctx, stop := context.WithCancel(l.ctx)
	defer stop()
	beside := make(chan done, 1)
	began := time.Now()
	go func() {
		times, err := at.during(ctx)
		beside <- done{times, err}
	}()
	result, err := l.load.Run(job)
	took := time.Since(began)
	stop()
	d := <-beside
	at.often = append(at.often, float64(d.times)/took.Seconds())
	return result, errors.Join(err, d.err)
}
