// Command tokenkit-authz puts API keys in front of any service behind Envoy.
//
//	tokenkit-authz demo     a protected route on this machine, to try
//	tokenkit-authz serve    the service itself
//
// Run it without arguments for the other commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "tokenkit-authz: "+err.Error())
		}
		os.Exit(1)
	}
}

// errReported ends a command whose output already says what is wrong.
var errReported = errors.New("reported")

// run executes one command line until it is done or ctx is.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root := newRoot(streams{in: stdin, out: stdout, err: stderr})
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// streams are the standard streams of one command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}
