package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
)

func newUser(std streams) *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Add, invite and list users, change passwords and roles"}
	cmd.AddCommand(newUserAdd(std), newUserInvite(std), newUserInvitations(std), newUserUninvite(std), newUserPasswd(std), newUserRole(std), newUserList(std), newUserDelete(std))
	return cmd
}

// password reads a password from standard input, or makes one.
type password struct {
	generate bool
	text     string
}

// add gives cmd the flag, and reads the password before cmd runs: nothing is
// open yet while somebody types.
func (p *password) add(cmd *cobra.Command, std streams) *cobra.Command {
	cmd.Flags().BoolVar(&p.generate, "generate", false, "make a password and print it, instead of reading one from standard input")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		if p.generate {
			p.text = rand.Text()
			return nil
		}
		p.text, err = readSecretLine(cmd.Context(), std.in, std.err, "password")
		return err
	}
	return cmd
}

// generated returns the password if it was made here and is to be shown.
func (p *password) generated() string {
	if p.generate {
		return p.text
	}
	return ""
}

// userAndPassword is a user, with a password that was made for them.
type userAndPassword struct {
	*admin.User
	Password string `json:"password,omitempty"`
}

func (u *userAndPassword) print(w io.Writer) {
	if u.Password != "" {
		fmt.Fprintf(w, "password: %s\n", u.Password)
	}
}

func newUserAdd(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out, create: true}
	var p password
	var email, role string
	cmd := o.add(&cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long: `Add a user. The password is asked for on a terminal, else read as one line from
standard input; --generate makes one and prints it.`,
		Example: "  tokenkit-authz user add alice --email alice@example.com",
		Args:    cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		user, err := client.AddUser(cmd.Context(), admin.NewUser{Name: args[0], Email: email, Role: role, Password: p.text})
		if err != nil {
			return err
		}
		added := &userAndPassword{&user, p.generated()}
		return o.print(added, func(w io.Writer) {
			added.print(w)
			fmt.Fprintf(w, "user %s added\n", user.Name)
		})
	})
	cmd.Flags().StringVar(&email, "email", "", "address that the user may sign in with as well")
	cmd.Flags().StringVar(&role, "role", "", "what the user may do: member, viewer, admin or owner (default: member; the first user: owner)")
	return p.add(cmd, std)
}

func newUserPasswd(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var p password
	cmd := o.add(&cobra.Command{
		Use:   "passwd NAME",
		Short: "Change a user's password and end their sessions",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		if err := client.SetPassword(cmd.Context(), args[0], p.text); err != nil {
			return err
		}
		changed := &userAndPassword{Password: p.generated()}
		return o.print(changed, changed.print)
	})
	return p.add(cmd, std)
}

func newUserList(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "list",
		Short: "List users",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		users, err := client.ListUsers(cmd.Context())
		if err != nil {
			return err
		}
		return o.print(users, func(w io.Writer) {
			fmt.Fprintln(w, "ID\tNAME\tEMAIL\tROLE\tCREATED")
			for _, u := range users {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", u.ID, u.Name, orDash(u.Email), u.Role, u.CreatedAt.Format(time.DateTime))
			}
		})
	})
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
