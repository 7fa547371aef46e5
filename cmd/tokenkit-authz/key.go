package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
)

func newKey(std streams) *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Create, change, rotate, pause, list and delete keys"}
	cmd.AddCommand(
		newKeyCreate(std), newKeyList(std), newKeyShow(std), newKeyUpdate(std), newKeyRotate(std), newKeyEnable(std, false), newKeyEnable(std, true),
		newKeyUsage(std), newKeyExplain(std), newKeyVerify(std), newKeyDelete(std),
	)
	return cmd
}

func newKeyCreate(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var owner string
	var fields keyFields
	cmd := o.add(&cobra.Command{
		Use:   "create NAME",
		Short: "Create a key and print it, once",
		Example: `  tokenkit-authz key create my-app --owner alice --origin https://app.example.io --rate-limit 5000
  tokenkit-authz key create indexer-cron --owner alice --ip 203.0.113.10 --strict`,
		Args: cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		key, err := fields.newKey(args[0], cmd.Flags())
		if err != nil {
			return err
		}
		created, err := client.CreateKey(cmd.Context(), admin.OwnedKey{Owner: owner, NewKey: key})
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
	cmd.Flags().StringVar(&owner, "owner", "", "user whose key it is")
	fields.flags(cmd.Flags())
	_ = cmd.MarkFlagRequired("owner") // fails only for a flag that does not exist
	return cmd
}

func newKeyList(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var search admin.KeySearch
	cmd := o.add(&cobra.Command{
		Use:   "list",
		Short: "List keys",
		Long:  "List keys: all by ascending id, or those that --search and --state find, the newest first.",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		keys, err := findKeys(cmd.Context(), client, search)
		if err != nil {
			return err
		}
		return o.print(keys, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tNAME\tKEY\tOWNER\tORIGINS\tIPS\tLIMIT/H\tSTRICT\tSTATE\tCREATED\tLAST USED")
			for _, k := range keys {
				limit, used := "-", "never"
				if k.RateLimitPerHour != nil {
					limit = strconv.FormatUint(uint64(*k.RateLimitPerHour), 10)
				}
				if k.LastUsedAt != nil {
					used = k.LastUsedAt.Format(time.DateTime)
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%v\t%s\t%s\t%s\n", k.ID, k.Name, k.Hint, k.Owner,
					orAny(k.AllowedOrigins), orAny(k.AllowedIPs), limit, k.Strict, k.State, k.CreatedAt.Format(time.DateTime), used)
			}
		})
	})
	cmd.Flags().StringVar(&search.Owner, "owner", "", "user whose keys to list (default: all)")
	cmd.Flags().StringVar(&search.Search, "search", "", "text that the name, hint, notes, owner or metadata contains, or #ID")
	cmd.Flags().StringVar(&search.State, "state", "", "active, paused, expired, expiring (within 7 days), never_used or unused_30d")
	return cmd
}

// findKeys returns all keys that a search finds, from as many pages as it takes.
func findKeys(ctx context.Context, client *admin.OperatorClient, search admin.KeySearch) ([]admin.Key, error) {
	if search.Search == "" && search.State == "" {
		return client.ListKeys(ctx, search.Owner)
	}
	search.Limit = 200
	all := []admin.Key{}
	for {
		page, _, err := client.SearchKeys(ctx, search)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < search.Limit {
			return all, nil
		}
		search.After = page[len(page)-1].ID
	}
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
		id, err := parseKeyID(args[0])
		if err != nil {
			return err
		}
		deleted, err := client.DeleteKey(cmd.Context(), id)
		if err != nil {
			return err
		}
		return o.print(deleted, func(w io.Writer) { fmt.Fprintf(w, "key %d (%s) deleted\n", deleted.ID, deleted.Name) })
	})
}
