package telemetry

import (
	"fmt"
	"io"
	"os"
)

// logFile is a file that lines are added to, or a writer. It is not safe for
// concurrent use.
type logFile struct {
	path    string
	writer  io.Writer // in place of a file
	file    *os.File  // nil where it could not be opened
	torn    bool      // the last line is not whole
	failing bool
}

// open opens the file unless it is open.
func (f *logFile) open() (err error) {
	if f.writer != nil || f.file != nil {
		return nil
	}
	// Opening a pipe that nobody reads would wait for a reader.
	if info, err := os.Stat(f.path); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		return fmt.Errorf("decision log %s: expected a file, got a pipe", f.path)
	}
	if f.file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return fmt.Errorf("opening the decision log: %w", err)
	}
	return nil
}

// follow closes a file that is no longer the one of its name.
func (f *logFile) follow() {
	if f.file == nil {
		return
	}
	opened, err := f.file.Stat()
	if err != nil {
		return
	}
	if named, err := os.Stat(f.path); err == nil && os.SameFile(opened, named) {
		return
	}
	_ = f.close()
}

// write adds lines and returns how many bytes of them were.
func (f *logFile) write(lines []byte) (n int, err error) {
	f.follow()
	if err := f.open(); err != nil {
		return 0, err
	}
	var w io.Writer = f.file
	if f.writer != nil {
		w = f.writer
	}
	if f.torn {
		if _, err := w.Write(newline); err != nil {
			return 0, fmt.Errorf("writing the decision log: %w", err)
		}
		f.torn = false
	}
	n, err = w.Write(lines)
	n = min(max(n, 0), len(lines))
	if err != nil {
		err = fmt.Errorf("writing the decision log: %w", err)
	}
	f.torn = n > 0 && n < len(lines) && lines[n-1] != '\n'
	return n, err
}

func (f *logFile) close() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file, f.torn = nil, false
	if err != nil {
		return fmt.Errorf("closing the decision log: %w", err)
	}
	return nil
}
