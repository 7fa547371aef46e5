package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/apikey"
)

func newKeyVerify(std streams) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Tell whether a text has the form and checksum of a key, without asking any service",
		Long: `Tell whether a text has the form and checksum of a key. Nothing is opened and nobody is
asked, so it says nothing about whether the key exists; check does.

The text is read from standard input, so that it stays out of the list of processes and
the shell's history. Exits with 1 where it is no key.`,
		Example: "  tokenkit-authz key verify < found.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := readSecretLine(cmd.Context(), std.in, std.err, "API key")
			if err != nil {
				return err
			}
			secret, err := apikey.ParseSecret(text)
			if asJSON {
				result := struct {
					WellFormed bool   `json:"well_formed"`
					Hint       string `json:"hint,omitempty"`
				}{err == nil, secret.Hint()}
				if err := printJSON(std.out, result); err != nil {
					return err
				}
				if err != nil {
					return errReported
				}
				return nil
			}
			if err != nil {
				return errors.New("no key: expected tk_ and 49 letters and digits, of which the last 6 are a checksum of the rest")
			}
			_, err = fmt.Fprintf(std.out, "%s has the form of a key\n", secret.Hint())
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
