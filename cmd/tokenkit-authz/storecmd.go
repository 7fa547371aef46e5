package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
)

func newStore(std streams) *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "Back up the key store"}
	cmd.AddCommand(newStoreBackup(std))
	return cmd
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
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	if n, err = write(file); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	if err := os.Link(file.Name(), path); err != nil { // unlike a rename, never over another file
		return 0, err
	}
	return n, errors.Join(file.Close(), os.Remove(file.Name()))
}
