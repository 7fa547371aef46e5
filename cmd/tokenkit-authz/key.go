package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

func newKey(std streams) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Create, list and delete keys"}
	cmd.AddCommand(newKeyCreate(std), newKeyList(std), newKeyDelete(std))
	return cmd
}

func newKeyCreate(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var key admin.OwnedKey
	var limit int64
	cmd := o.add(&cobra.Command{
		Use:   "create NAME",
		Short: "Create a key and print it, once",
		Example: `  tokenkit-authz key create my-app --owner alice --origin https://app.example.io --rate-limit 5000
  tokenkit-authz key create indexer-cron --owner alice --ip 203.0.113.10 --strict`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		key.Name = args[0]
		if cmd.Flags().Changed("rate-limit") {
			key.RateLimitPerHour = &limit
		}
		created, err := client.CreateKey(cmd.Context(), key)
		if err != nil {
			return err
		}
		for _, warning := range created.Warnings {
			fmt.Fprintf(std.err, "warning: %s\n", warning.Message)
		}
		return o.print(created, func(w io.Writer) {
			fmt.Fprintf(w, "id\t%d\nkey\t%s\n\t(shown only now: save it)\n", created.ID, created.Key)
		})
	})
	f := cmd.Flags()
	f.StringVar(&key.Owner, "owner", "", "user whose key it is")
	f.StringSliceVar(&key.AllowedOrigins, "origin", nil, "origin that requests may name; may be repeated")
	f.StringSliceVar(&key.AllowedIPs, "ip", nil, "address or CIDR prefix that requests without an origin may come from; may be repeated")
	f.Int64Var(&limit, "rate-limit", 0, "calls that any 60 minutes may allow (default: the server's)")
	f.BoolVar(&key.Strict, "strict", false, "make both lists hold for every request")
	_ = cmd.MarkFlagRequired("owner") // fails only for a flag that does not exist
	return cmd
}

func newKeyList(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var owner string
	cmd := o.add(&cobra.Command{
		Use:   "list",
		Short: "List keys",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		keys, err := client.ListKeys(cmd.Context(), owner)
		if err != nil {
			return err
		}
		return o.print(keys, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tNAME\tKEY\tOWNER\tORIGINS\tIPS\tLIMIT/H\tSTRICT\tCREATED\tLAST USED")
			for _, k := range keys {
				limit, used := "-", "never"
				if k.RateLimitPerHour != nil {
					limit = strconv.FormatUint(uint64(*k.RateLimitPerHour), 10)
				}
				if k.LastUsedAt != nil {
					used = k.LastUsedAt.Format(time.DateTime)
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%v\t%s\t%s\n", k.ID, k.Name, k.Hint, k.Owner,
					orAny(k.AllowedOrigins), orAny(k.AllowedIPs), limit, k.Strict, k.CreatedAt.Format(time.DateTime), used)
			}
		})
	})
	cmd.Flags().StringVar(&owner, "owner", "", "user whose keys to list (default: all)")
	return cmd
}

func orAny(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	return strings.Join(list, ",")
}

func newKeyDelete(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "delete ID",
		Short: "Delete a key; requests with it get 401 from then on",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || id <= 0 {
			return fmt.Errorf("key id %q: expected a positive integer, as `key list` shows", args[0])
		}
		deleted, err := client.DeleteKey(cmd.Context(), apikey.KeyID(id))
		if err != nil {
			return err
		}
		return o.print(deleted, func(w io.Writer) { fmt.Fprintf(w, "key %d (%s) deleted\n", deleted.ID, deleted.Name) })
	})
}
