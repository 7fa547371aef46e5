package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/internal/boltfile"
)

// withOperator calls fn with a client of the operator API: that of the service
// that holds the data folder, or else one over the folder itself, which must
// exist unless create is set.
func withOperator(ctx context.Context, s *settings, create bool, fn func(*admin.OperatorClient) error) error {
	// A service that starts or stops holds the files without listening.
	for deadline := time.Now().Add(lockPatience); ; {
		if serving(ctx, s.controlPath()) {
			client := admin.NewOperatorClient(s.controlPath())
			defer client.Close()
			return fn(client)
		}
		if _, err := os.Stat(s.data); err != nil && !create {
			return fmt.Errorf("data folder %s: %w", s.data, err)
		}
		// What is done here is answered here; there is nothing to log.
		v, err := openService(ctx, s, slog.New(slog.DiscardHandler))
		if err == nil {
			client := admin.NewLocalOperatorClient(v.admin.Operator())
			return errors.Join(fn(client), v.close(ctx))
		}
		if !errors.Is(err, boltfile.ErrLocked) || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
	}
}

// lockPatience is how long a command waits for files that another process has
// open; each try takes a second.
const lockPatience = 5 * time.Second

// serving reports whether a process listens on a control socket.
func serving(ctx context.Context, path string) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// operatorCommand is a command that makes operator calls and prints what they
// answer, as a table or as JSON.
type operatorCommand struct {
	settings
	out    io.Writer
	asJSON bool
	create bool
}

// add gives cmd the flags of an operator command and run as its action.
func (o *operatorCommand) add(cmd *cobra.Command, run func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		// What serve is told holds here too, such as the default limit.
		var all settings
		flags := all.defaults()
		for name, value := range map[string]string{configFlag: o.config, "data": o.data} {
			if err := flags.Set(name, value); err != nil {
				return err
			}
		}
		if err := applyConfig(flags, os.Environ()); err != nil {
			return err
		}
		return withOperator(cmd.Context(), &all, o.create, func(client *admin.OperatorClient) error {
			return explainProblem(run(cmd, args, client))
		})
	}
	o.flags(cmd)
	return cmd
}

func (o *operatorCommand) flags(cmd *cobra.Command) {
	o.dataFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print JSON")
}

// explainProblem words a refusal for a terminal: its fields, else its detail.
func explainProblem(err error) error {
	var problem *admin.Problem
	if !errors.As(err, &problem) {
		return err
	}
	if len(problem.Errors) == 0 {
		return errors.New(problem.Detail)
	}
	all := make([]error, len(problem.Errors))
	for i, field := range problem.Errors {
		all[i] = fmt.Errorf("%s: %s", strings.TrimPrefix(field.Location, "body."), field.Message)
	}
	return errors.Join(all...)
}

// print writes value as JSON, or the table that it fills.
func (o *operatorCommand) print(value any, table func(w io.Writer)) error {
	if o.asJSON {
		return printJSON(o.out, value)
	}
	w := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	table(w)
	return w.Flush()
}

// printJSON writes value for people and programs.
func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
