package main

import (
	"bufio"
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
func readSecretLine(in io.Reader, prompts io.Writer, what string) (string, error) {
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(prompts, "%s: ", what)
		line, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(prompts)
		if err != nil {
			return "", fmt.Errorf("reading the %s: %w", what, err)
		}
		return string(line), nil
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
