package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
)

// findUser returns the user with a name or address.
func findUser(cmd *cobra.Command, client *admin.OperatorClient, login string) (admin.User, error) {
	users, err := client.ListUsers(cmd.Context())
	if err != nil {
		return admin.User{}, err
	}
	for _, u := range users {
		if u.Name == login || u.Email != "" && u.Email == login {
			return u, nil
		}
	}
	return admin.User{}, fmt.Errorf("user %q: expected the name of a user, as `user list` shows", login)
}

func newUserRole(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "role NAME member|viewer|admin|owner",
		Short: "Change what a user may do",
		Args:  cobra.ExactArgs(2),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		user, err := findUser(cmd, client, args[0])
		if err != nil {
			return err
		}
		changed, err := client.UpdateUser(cmd.Context(), admin.UserChange{UserID: int64(user.ID), Role: &args[1]})
		if err != nil {
			return err
		}
		return o.print(changed, func(w io.Writer) { fmt.Fprintf(w, "user %s is %s now\n", changed.Name, changed.Role) })
	})
}

func newUserDelete(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a user who owns no keys",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		user, err := findUser(cmd, client, args[0])
		if err != nil {
			return err
		}
		deleted, err := client.DeleteUser(cmd.Context(), user.ID)
		if err != nil {
			return err
		}
		return o.print(deleted, func(w io.Writer) { fmt.Fprintf(w, "user %s deleted\n", deleted.Name) })
	})
}

func newUserInvite(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out, create: true}
	var invitation admin.NewInvitation
	cmd := o.add(&cobra.Command{
		Use:   "invite NAME",
		Short: "Invite somebody by a link that works once, and print it",
		Long: `Invite somebody by a link that works once, and print it. Whoever opens it chooses a
password. A new invitation of the same name takes the place of the one before.`,
		Example: "  tokenkit-authz user invite ada --email ada@example.com --role admin",
		Args:    cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		invitation.Name = args[0]
		sent, err := client.Invite(cmd.Context(), invitation)
		if err != nil {
			return err
		}
		return o.print(sent, func(w io.Writer) {
			fmt.Fprintf(w, "%s\n(works once, until %s)\n", sent.Link, sent.ExpiresAt.Format(time.RFC3339))
		})
	})
	cmd.Flags().StringVar(&invitation.Email, "email", "", "address that the user may sign in with as well")
	cmd.Flags().StringVar(&invitation.Role, "role", "member", "what the user may do: member, viewer, admin or owner")
	return cmd
}

func newUserInvitations(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "invitations",
		Short: "List the invitations that can be accepted",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		list, err := client.ListInvitations(cmd.Context())
		if err != nil {
			return err
		}
		return o.print(list, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tNAME\tEMAIL\tROLE\tBY\tUNTIL")
			for _, i := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", i.ID, i.Name, orDash(i.Email), i.Role, i.InvitedBy, i.ExpiresAt.Format(time.DateTime))
			}
		})
	})
}

func newUserUninvite(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "uninvite ID",
		Short: "Take an invitation back",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		if err := client.RevokeInvitation(cmd.Context(), args[0]); err != nil {
			return err
		}
		return o.print(map[string]string{"revoked": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "invitation %s taken back\n", args[0]) })
	})
}
