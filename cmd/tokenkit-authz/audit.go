package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
)

func newAudit(std streams) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "See who changed what, and when"}
	cmd.AddCommand(newAuditList(std), newAuditExport(std))
	return cmd
}

// auditFlags choose events.
type auditFlags struct {
	query admin.AuditQuery
	span  timeRange
}

func (a *auditFlags) add(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&a.query.Actor, "actor", "", "name of who did it")
	f.StringVar(&a.query.Action, "action", "", "how the action begins, such as key. or login.fail")
	f.StringVar(&a.query.Target, "target", "", "what it was done to: key, user, session, address or store")
	f.Int64Var(&a.query.TargetID, "target-id", 0, "id of the key or user it was done to")
	a.span.flags(cmd)
	return cmd
}

func (a *auditFlags) read() (q admin.AuditQuery, err error) {
	q = a.query
	q.From, q.To, err = a.span.times(time.Now())
	return q, err
}

func newAuditList(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var flags auditFlags
	cmd := o.add(&cobra.Command{
		Use:     "list",
		Short:   "List the newest events",
		Example: "  tokenkit-authz audit list --target key --target-id 7 --from 24h",
		Args:    cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		query, err := flags.read()
		if err != nil {
			return err
		}
		events, err := client.Audit(cmd.Context(), query)
		if err != nil {
			return err
		}
		return o.print(events, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tTIME\tWHO\tFROM\tACTION\tWHAT\tCHANGES")
			for _, e := range events {
				who := e.Actor.Name
				if who == "" {
					who = e.Actor.Kind
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.Time.Format(time.DateTime), who, orDash(e.Actor.Address), e.Action, targetText(e.Target), changesText(e.Changes))
			}
		})
	})
	cmd.Flags().IntVar(&flags.query.Limit, "limit", 50, "how many events, at most 1000")
	return flags.add(cmd)
}

func targetText(t admin.AuditTarget) string {
	text := t.Kind
	if t.ID != 0 {
		text = fmt.Sprintf("%s %d", text, t.ID)
	}
	if t.Name != "" {
		text += " " + t.Name
	}
	return orDash(strings.TrimSpace(text))
}

func changesText(changes []admin.AuditChange) string {
	side := func(raw []byte) string {
		if len(raw) == 0 || string(raw) == "null" {
			return "-"
		}
		return string(raw)
	}
	var all []string
	for _, c := range changes {
		all = append(all, fmt.Sprintf("%s: %s → %s", c.Field, side(c.From), side(c.To)))
	}
	return orDash(strings.Join(all, "; "))
}

func newAuditExport(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var flags auditFlags
	cmd := o.add(&cobra.Command{
		Use:   "export",
		Short: "Print all events as lines of JSON",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		query, err := flags.read()
		if err != nil {
			return err
		}
		return client.ExportAudit(cmd.Context(), query, std.out)
	})
	return flags.add(cmd)
}
