package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/extauthz/statefile"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

// importTimeout bounds the one change of an import; a million keys take about
// half a minute.
const importTimeout = 10 * time.Minute

func newStore(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Verify, back up, restore, compact, export and import the key store",
		Long: `Verify, back up, restore, compact, export and import the key store: users, keys and
sessions. What keys have spent and which addresses are blocked is in a file of its own,
state.db, which is checked with it but never copied: an old state would allow calls again.
What keys did is in usage.db, which is checked, too, and not copied.`,
	}
	cmd.AddCommand(newStoreVerify(std), newStoreBackup(std), newStoreRestore(std), newStoreCompact(std), newStoreExport(std), newStoreImport(std), newStoreMigrate(std))
	return cmd
}

// storeCommand is a command over the files of a data folder, which no service
// may hold. One that is given a file besides may be about that alone.
func storeCommand(std streams, cmd *cobra.Command, run func(cmd *cobra.Command, args []string, o *operatorCommand) error) *cobra.Command {
	o := &operatorCommand{out: std.out}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		otherFile := cmd.Name() == "verify" && len(args) == 1
		if !otherFile && serving(cmd.Context(), o.controlPath()) {
			return fmt.Errorf("a service holds the data folder %s: stop it first", o.data)
		}
		return run(cmd, args, o)
	}
	o.flags(cmd)
	return cmd
}

func newStoreVerify(std streams) *cobra.Command {
	return storeCommand(std, &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Read the whole store, or a backup, and check that it is what was written",
		Args:  cobra.MaximumNArgs(1),
	}, func(cmd *cobra.Command, args []string, o *operatorCommand) error {
		path := o.keysFile()
		if len(args) == 1 {
			path = args[0]
		}
		report, err := bolt.Verify(cmd.Context(), path, bolt.Options{})
		if err != nil {
			return err
		}
		if len(args) == 0 {
			if err := verifyState(cmd.Context(), o.stateFile()); err != nil {
				return err
			}
			if err := verifyUsage(cmd.Context(), o.usageFile()); err != nil {
				return err
			}
		}
		return o.print(report, func(w io.Writer) {
			fmt.Fprintf(w, "%s is whole: %d users, %d keys, %d sessions in %d bytes\n", path, report.Users, report.Keys, report.Sessions, report.Bytes)
		})
	})
}

// verifyState checks the state file, if there is one yet.
func verifyState(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	state, err := statefile.Open(ctx, path, statefile.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	return errors.Join(state.Check(ctx), state.Close())
}

func newStoreBackup(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	return o.add(&cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the key store while it is in use; - is standard output",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, client *admin.OperatorClient) error {
		if args[0] == "-" {
			_, err := client.Backup(cmd.Context(), std.out)
			return err
		}
		n, err := writeWhole(args[0], func(w io.Writer) (int64, error) { return client.Backup(cmd.Context(), w) })
		if err != nil {
			return err
		}
		return o.print(map[string]any{"file": args[0], "bytes": n}, func(w io.Writer) { fmt.Fprintf(w, "%d bytes written to %s\n", n, args[0]) })
	})
}

func newStoreRestore(std streams) *cobra.Command {
	return storeCommand(std, &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of the key store, in one step; - is standard input",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, o *operatorCommand) error {
		if err := makeDataFolder(o.data); err != nil {
			return err
		}
		return withInput(std, args[0], func(r io.Reader) error {
			if err := bolt.Restore(cmd.Context(), o.keysFile(), r, bolt.Options{}); err != nil {
				return err
			}
			return o.print(map[string]string{"restored": o.keysFile()}, func(w io.Writer) { fmt.Fprintf(w, "%s restored\n", o.keysFile()) })
		})
	})
}

func newStoreCompact(std streams) *cobra.Command {
	return storeCommand(std, &cobra.Command{
		Use:   "compact",
		Short: "Write the key store anew without the space that deleted keys left",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, o *operatorCommand) error {
		before, after, err := bolt.Compact(cmd.Context(), o.keysFile(), bolt.Options{})
		if err != nil {
			return err
		}
		return o.print(map[string]int64{"before": before, "after": after}, func(w io.Writer) {
			fmt.Fprintf(w, "%d bytes before, %d after\n", before, after)
		})
	})
}

func newStoreExport(std streams) *cobra.Command {
	o := &operatorCommand{out: std.out}
	var e bolt.ExportOptions
	cmd := o.add(&cobra.Command{
		Use:   "export",
		Short: "Write users and keys as JSON lines, with hashes of secrets only",
		Args:  cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, client *admin.OperatorClient) error {
		// A backup is a moment of the store, whoever holds it. It is kept where
		// its original is: perhaps nothing else can be written.
		dir, err := os.MkdirTemp(o.data, ".export-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		path := filepath.Join(dir, "keys.db")
		if _, err := writeWhole(path, func(w io.Writer) (int64, error) { return client.Backup(cmd.Context(), w) }); err != nil {
			return err
		}
		return withStore(cmd.Context(), path, bolt.Options{ReadOnly: true}, func(s *bolt.Store) error {
			return s.Export(cmd.Context(), std.out, e)
		})
	})
	cmd.Flags().BoolVar(&e.PasswordHashes, "password-hashes", false, "include the hashes of passwords, so that users need no new ones")
	return cmd
}

func newStoreImport(std streams) *cobra.Command {
	return storeCommand(std, &cobra.Command{
		Use:   "import FILE",
		Short: "Add the users and keys of an export, all or none; - is standard input",
		Args:  cobra.ExactArgs(1),
	}, func(cmd *cobra.Command, args []string, o *operatorCommand) error {
		if err := makeDataFolder(o.data); err != nil {
			return err
		}
		return withInput(std, args[0], func(r io.Reader) error {
			return withStore(cmd.Context(), o.keysFile(), bolt.Options{CommitTimeout: importTimeout}, func(s *bolt.Store) error {
				added, err := s.Import(cmd.Context(), r, store.Actor{Kind: store.ActorOperator})
				if err != nil {
					return err
				}
				return o.print(added, func(w io.Writer) { fmt.Fprintf(w, "%d users and %d keys added\n", added.Users, added.Keys) })
			})
		})
	})
}

func withStore(ctx context.Context, path string, options bolt.Options, fn func(*bolt.Store) error) error {
	s, err := bolt.Open(ctx, path, options)
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

// withInput opens a file, or standard input for "-".
func withInput(std streams, path string, fn func(io.Reader) error) error {
	if path == "-" {
		return fn(std.in)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(fn(file), file.Close())
}

// writeWhole writes a file that appears under its name only when it is whole
// and safe on disk. It refuses to replace one.
func writeWhole(path string, write func(io.Writer) (int64, error)) (n int64, err error) {
	if _, err := os.Lstat(path); err == nil {
		return 0, fmt.Errorf("%s exists already", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	if n, err = write(file); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	// A link, unlike a rename, never takes the place of another file.
	if err := os.Link(file.Name(), path); err != nil {
		return 0, err
	}
	return n, syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder safe on disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
