package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

// timeRange are the flags --from and --to.
type timeRange struct{ from, to string }

func (r *timeRange) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.from, "from", "", "not before this time (RFC 3339), or this long ago, such as 24h")
	cmd.Flags().StringVar(&r.to, "to", "", "before this time (RFC 3339), or this long ago")
}

func (r *timeRange) times(now time.Time) (from, to time.Time, err error) {
	if from, err = parseTime("from", r.from, now); err != nil {
		return
	}
	to, err = parseTime("to", r.to, now)
	return
}

func parseTime(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s %q: expected a time such as 2030-01-31T12:00:00Z, or how long ago, such as 24h", flag, text)
	}
	return at, nil
}

func newKeyUsage(std streams) *cobra.Command {
	var by string
	var span timeRange
	cmd := keyCommand(std, &cobra.Command{
		Use:     "usage ID",
		Short:   "Show what a key did, by minute, hour or day",
		Example: "  tokenkit-authz key usage 7 --by minute --from 30m",
	}, func(o *operatorCommand, cmd *cobra.Command, id apikey.KeyID, client *admin.OperatorClient) error {
		from, to, err := span.times(time.Now())
		if err != nil {
			return err
		}
		series, err := client.Usage(cmd.Context(), id, by, from, to)
		if err != nil {
			return err
		}
		return o.print(series, func(w io.Writer) {
			fmt.Fprintln(w, "TIME\tALLOWED\tLIMITED\tORIGIN\tADDRESS\tSCOPE\tSTATE")
			for _, p := range series.Points {
				fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\n", p.Time.Format(time.DateTime), p.Allowed, p.Limited, p.Origin, p.Address, p.Scope, p.State)
			}
		})
	})
	cmd.Flags().StringVar(&by, "by", "hour", "length of the periods: minute, hour or day")
	span.flags(cmd)
	return cmd
}

func newKeyExplain(std streams) *cobra.Command {
	var request admin.ExplainRequest
	var origin string
	cmd := keyCommand(std, &cobra.Command{
		Use:     "explain ID",
		Short:   "Say what would become of a request with a key, and which rule decides",
		Example: "  tokenkit-authz key explain 7 --path /v1/tokens/ --origin https://app.example.io --ip 203.0.113.10",
	}, func(o *operatorCommand, cmd *cobra.Command, id apikey.KeyID, client *admin.OperatorClient) error {
		if cmd.Flags().Changed("origin") {
			request.Origin = &origin
		}
		explanation, err := client.Explain(cmd.Context(), id, request)
		if err != nil {
			return err
		}
		return o.print(explanation, func(w io.Writer) {
			fmt.Fprintln(w, "RULE\tOUTCOME\t")
			for _, step := range explanation.Steps {
				fmt.Fprintf(w, "%s\t%s\t%s\n", step.Rule, step.Outcome, step.Detail)
			}
			fmt.Fprintf(w, "answer\t%d\t%s\n", explanation.Status, explanation.Reason)
		})
	})
	f := cmd.Flags()
	f.StringVar(&request.Method, "method", "GET", "method of the request")
	f.StringVar(&request.Path, "path", "/", "path of the request, with its query")
	f.StringVar(&origin, "origin", "", "Origin header of the request (default: none)")
	f.StringVar(&request.IP, "ip", "", "address that the request comes from (default: not known)")
	f.StringVar(&request.Scope, "scope", "", "scope that the route asks for (default: none)")
	return cmd
}
