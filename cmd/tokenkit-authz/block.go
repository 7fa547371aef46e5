package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

func newBlock(std streams) *cobra.Command {
	cmd := &cobra.Command{Use: "block", Short: "List blocked addresses, unblock one"}
	cmd.AddCommand(newBlockList(std), newBlockRemove(std))
	return cmd
}

func newBlockList(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "list",
		Short: "List the addresses that are blocked now",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		list, err := client.ListBlocks(cmd.Context())
		if err != nil {
			return err
		}
		return o.print(list, func(w io.Writer) {
			fmt.Fprintln(w, "ADDRESS\tFAILURES\tREASON\tLEFT")
			for _, b := range list {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", b.Address, b.Failures, b.Reason, time.Until(b.Until).Round(time.Second))
			}
		})
	})
}

func newBlockRemove(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "remove ADDRESS",
		Short: "Unblock an address and forget its failures",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		prefix, err := apikey.ParseAddressPrefix(args[0])
		if err != nil {
			return fmt.Errorf("address %q: %w", args[0], err)
		}
		if err := client.Unblock(cmd.Context(), prefix.Addr()); err != nil {
			return err
		}
		return o.print(map[string]string{"unblocked": prefix.Addr().String()}, func(w io.Writer) {
			fmt.Fprintf(w, "%s unblocked\n", prefix.Addr())
		})
	})
}
