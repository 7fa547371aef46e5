package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// document has the table, seen from the module's root.
const document = "docs/security.md"

func main() {
	short := flag.Bool("short", false, "fewer connections and requests, the same checks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := attackAll(ctx, os.Stdout, *short)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// attackAll runs all lines and prints what became of each.
func attackAll(ctx context.Context, out io.Writer, short bool) error {
	file, err := os.Open(document)
	if err != nil {
		return fmt.Errorf("reading the attacks: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	attacks, err := read(file)
	if err != nil {
		return fmt.Errorf("%s: %w", document, err)
	}
	results := run(ctx, attacks, short)
	for _, text := range results.said {
		fmt.Fprintln(out, text)
	}
	stopped, open := 0, 0
	for i := range attacks {
		a := &attacks[i]
		if wrong := results.open(a); wrong != "" {
			open++
			fmt.Fprintf(out, "open     %s: %s: %s\n", a.surface, a.attack, wrong)
			continue
		}
		stopped++
		fmt.Fprintf(out, "stopped  %s: %s\n", a.surface, a.attack)
	}
	fmt.Fprintf(out, "attacks=%d open=%d\n", stopped, open)
	if open > 0 {
		return fmt.Errorf("%d attacks are not shown to be stopped", open)
	}
	return nil
}
