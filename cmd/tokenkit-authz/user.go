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
	cmd := &cobra.Command{Use: "user", Short: "Add users, change passwords, list users"}
	cmd.AddCommand(newUserAdd(std), newUserPasswd(std), newUserList(std))
	return cmd
}

// password reads a password from standard input, or makes one.
type password struct {
	generate bool
}

func (p *password) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.generate, "generate", false, "make a password and print it, instead of reading one from standard input")
}

func (p *password) read(std streams) (string, error) {
	if p.generate {
		return rand.Text(), nil
	}
	return readSecretLine(std.in, std.err, "password")
}

// show prints a generated password, the only time that it is shown.
func (p *password) show(std streams, text string) {
	if p.generate {
		fmt.Fprintf(std.out, "password: %s\n", text)
	}
}

func newUserAdd(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out, create: true}
	var p password
	var email string
	cmd := o.add(&cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long: `Add a user. The password is asked for on a terminal, else read as one line from
standard input; --generate makes one and prints it.`,
		Example: "  tokenkit-authz user add alice --email alice@example.com",
		Args:    cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		text, err := p.read(std)
		if err != nil {
			return err
		}
		user, err := client.AddUser(cmd.Context(), admin.NewUser{Name: args[0], Email: email, Password: text})
		if err != nil {
			return err
		}
		p.show(std, text)
		return o.print(user, func(w io.Writer) { fmt.Fprintf(w, "user %s added\n", user.Name) })
	})
	cmd.Flags().StringVar(&email, "email", "", "address that the user may sign in with as well")
	p.flags(cmd)
	return cmd
}

func newUserPasswd(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var p password
	cmd := o.add(&cobra.Command{
		Use:   "passwd NAME",
		Short: "Change a user's password and end their sessions",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		text, err := p.read(std)
		if err != nil {
			return err
		}
		if err := client.SetPassword(cmd.Context(), args[0], text); err != nil {
			return err
		}
		p.show(std, text)
		return nil
	})
	p.flags(cmd)
	return cmd
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
			fmt.Fprintln(w, "ID\tNAME\tEMAIL\tCREATED")
			for _, u := range users {
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", u.ID, u.Name, orDash(u.Email), u.CreatedAt.Format(time.DateTime))
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
