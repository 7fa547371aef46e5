package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxSecretLine bounds what is read as one secret, in bytes.
const maxSecretLine = 4096

// readSecretLine reads one line without its line break. On a terminal it asks
// for what, on prompts, and does not show what is typed. It never puts what it
// read into an error.
func readSecretLine(ctx context.Context, in io.Reader, prompts io.Writer, what string) (string, error) {
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(prompts, "%s: ", what)
		line, err := readHidden(ctx, int(file.Fd()))
		fmt.Fprintln(prompts)
		if err != nil {
			return "", fmt.Errorf("reading the %s: %w", what, err)
		}
		return line, nil
	}
	line, err := bufio.NewReader(io.LimitReader(in, maxSecretLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the %s: %w", what, err)
	}
	if len(line) == maxSecretLine {
		return "", fmt.Errorf("%s: expected one line of less than %d bytes", what, maxSecretLine)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// readHidden reads a line from a terminal that shows nothing of it, until ctx
// is done; the terminal is then as it was.
func readHidden(ctx context.Context, terminal int) (string, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	type read struct {
		line []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		line, err := term.ReadPassword(terminal)
		done <- read{line, err}
	}()
	select {
	case r := <-done:
		return string(r.line), r.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(terminal, before))
	}
}
