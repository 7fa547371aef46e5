package main

import (
	"os"

	"github.com/spf13/cobra"
)

func newRoot(std streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "tokenkit-authz",
		Short: "API keys in front of any service behind Envoy",
		Long: `tokenkit-authz answers Envoy's external authorization calls: it checks API keys,
the origins and addresses they may be used from, and their hourly limits.

Try it:       tokenkit-authz demo
Run it:       tokenkit-authz serve
First user:   tokenkit-authz user add alice
First key:    tokenkit-authz key create --owner alice my-app

Every setting of serve can be a flag (--session-ttl 8h), an environment variable
(TOKENKIT_AUTHZ_SESSION_TTL=8h) or a line of the file that --config names
(session_ttl: 8h); the first of these that is given wins.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Lookup(configFlag) == nil {
				return nil
			}
			return applyConfig(cmd.Flags(), os.Environ())
		},
	}
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	root.AddGroup(
		&cobra.Group{ID: "service", Title: "Service:"},
		&cobra.Group{ID: "manage", Title: "Users and keys:"},
		&cobra.Group{ID: "envoy", Title: "Envoy:"},
	)
	for group, commands := range map[string][]*cobra.Command{
		"service": {newServe(std), newDemo(std), newStore(std), newConfig(std), newEcho(std)},
		"manage":  {newUser(std), newKey(std), newBlock(std), newAudit(std)},
		"envoy":   {newEnvoy(std), newCheck(std), newDoctor(std)},
	} {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	root.AddCommand(newVersion(std), newHashPasswords(std))
	return root
}
