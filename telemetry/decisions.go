package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/extauthz"
)

// DecisionLogOptions say what a [DecisionLog] writes, and where. One of Path
// and Writer must be set.
type DecisionLogOptions struct {
	// Path is a file that lines are added to. It is made, for its owner only,
	// where it is not there; also when another program has moved it away, so
	// that rotating it needs no signal.
	Path string
	// Writer takes the lines in place of a file.
	Writer io.Writer
	// DenialsOnly leaves allowed Checks out.
	DenialsOnly bool
	// OneIn writes about one in this many allowed Checks, chosen at random.
	// Zero: all of them. Denials and errors are always written.
	OneIn uint32
	// BufferBytes bounds what waits to be written; lines beyond it are
	// dropped and counted. Zero: 4 MiB.
	BufferBytes int
	// Logger hears when writing begins to fail, and when it works again. Nil:
	// [slog.Default].
	Logger *slog.Logger
}

// DecisionLog writes one line of JSON for each Check. A Check never waits for
// the disk: lines are written about ten times a second by [DecisionLog.Run].
// What clients chose is cut to a length, and what looks like a key or a session
// token in it is left out; no line holds a secret.
type DecisionLog struct {
	options DecisionLogOptions
	denials atomic.Bool   // only
	oneIn   atomic.Uint32 // 1 or more
	out     *logFile
	lines   sync.Pool     // of *[]byte: a line that is being made
	wake    chan struct{} // something waits
	hurry   chan struct{} // half of the room is taken

	mu      sync.Mutex
	waiting []byte
	spare   []byte

	written, failed, dropped atomic.Uint64
}

var _ extauthz.Observer = (*DecisionLog)(nil)

const (
	defaultLogBuffer = 4 << 20
	logInterval      = 100 * time.Millisecond
	// logGrace is how long the last lines may take when the service stops.
	logGrace = 5 * time.Second
)

// OpenDecisionLog opens the log, or returns an error that names the file.
func OpenDecisionLog(o DecisionLogOptions) (*DecisionLog, error) {
	if (o.Path == "") == (o.Writer == nil) {
		return nil, errors.New("decision log: expected a file or a writer")
	}
	if o.BufferBytes <= 0 {
		o.BufferBytes = defaultLogBuffer
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	l := &DecisionLog{options: o, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), out: &logFile{path: o.Path, writer: o.Writer}}
	l.SetSampling(o.DenialsOnly, o.OneIn)
	l.lines.New = func() any { return new([]byte) }
	if err := l.out.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// SetSampling changes what [DecisionLogOptions] said of DenialsOnly and OneIn.
func (l *DecisionLog) SetSampling(denialsOnly bool, oneIn uint32) {
	l.denials.Store(denialsOnly)
	l.oneIn.Store(max(1, oneIn))
}

// Checked implements [extauthz.Observer].
func (l *DecisionLog) Checked(_ context.Context, check extauthz.Checked) {
	oneIn := uint32(1)
	if check.Err == nil && check.Allowed() {
		if l.denials.Load() {
			return
		}
		if oneIn = l.oneIn.Load(); oneIn > 1 && rand.Uint32N(oneIn) != 0 { //nolint:gosec // nothing depends on it
			return
		}
	}
	line := l.lines.Get().(*[]byte) //nolint:forcetypeassert // nothing else is in the pool
	*line = appendDecision((*line)[:0], &check, oneIn)
	l.put(*line)
	l.lines.Put(line)
}

func (l *DecisionLog) put(line []byte) {
	l.mu.Lock()
	before := len(l.waiting)
	if before+len(line) > l.options.BufferBytes {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	l.waiting = append(l.waiting, line...)
	after := len(l.waiting)
	l.mu.Unlock()
	if before == 0 {
		signal(l.wake)
	}
	if half := l.options.BufferBytes / 2; before < half && after >= half {
		signal(l.hurry)
	}
}

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Run writes what waits until ctx is done, then the rest. It returns an error
// where that takes more than five seconds; lines that cannot be written before
// are counted and logged, and are no reason to end.
func (l *DecisionLog) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for l.pause(ctx) {
			l.flush()
		}
		l.flush()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	timer := time.NewTimer(logGrace)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errors.New("decision log: the last lines could not be written in time")
	}
}

// pause returns when there is something to write that has waited for a while,
// or false once ctx is done.
func (l *DecisionLog) pause(ctx context.Context) bool {
	select {
	case <-l.wake:
	case <-ctx.Done():
		return false
	}
	timer := time.NewTimer(logInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.hurry:
	case <-ctx.Done():
		return false
	}
	return true
}

// flush writes what waits now.
func (l *DecisionLog) flush() {
	l.mu.Lock()
	taken := l.waiting
	l.waiting, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	if len(taken) > 0 {
		n, err := l.out.write(taken)
		lines, whole := bytes.Count(taken, newline), bytes.Count(taken[:n], newline)
		l.written.Add(uint64(whole))        //nolint:gosec // not negative
		l.failed.Add(uint64(lines - whole)) //nolint:gosec // nor is this
		l.report(err)
	}
	l.mu.Lock()
	l.spare = taken[:0]
	l.mu.Unlock()
}

var newline = []byte{'\n'}

func (l *DecisionLog) report(err error) {
	switch {
	case err != nil && !l.out.failing:
		l.options.Logger.Error("the decision log cannot be written", "error", err)
	case err == nil && l.out.failing:
		l.options.Logger.Info("the decision log is written again", "lost", l.failed.Load())
	}
	l.out.failing = err != nil
}

// Close writes what is left and closes the file. Run must have returned.
func (l *DecisionLog) Close() error {
	l.flush()
	return l.out.close()
}

// DecisionLogStats count lines since the log was opened.
type DecisionLogStats struct {
	Written uint64
	Failed  uint64 // could not be written
	Dropped uint64 // came while too much was waiting
	Waiting int    // bytes that are not written yet
}

// Stats returns the present figures.
func (l *DecisionLog) Stats() DecisionLogStats {
	l.mu.Lock()
	waiting := len(l.waiting)
	l.mu.Unlock()
	return DecisionLogStats{Written: l.written.Load(), Failed: l.failed.Load(), Dropped: l.dropped.Load(), Waiting: waiting}
}
