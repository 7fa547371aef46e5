package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
	"github.com/tokenkithq/authz/store/etcd"
	"github.com/tokenkithq/authz/store/records"
)

func newStoreMigrate(std streams) *cobra.Command {
	var from, to storeSettings
	cmd := storeCommand(std, &cobra.Command{
		Use:   "migrate --to WHERE",
		Short: "Move everything from one kind of store to another: from the file to etcd, or back",
		Long: `Move everything from one kind of store to another, with all ids, keys, sessions and the
audit log as they are. There must be nothing yet where it goes, and no service may use
either; where it came from stays as it is. What keys have spent is not moved: in the new
place every key begins a new hour.

--store-user and the like hold for the one that is etcd.`,
		Example: `  tokenkit-authz store migrate --to etcd://127.0.0.1:2379/tokenkit
  tokenkit-authz store migrate --from etcd://127.0.0.1:2379/tokenkit --to file`,
		Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, _ []string, o *operatorCommand) error {
		to.staleness = etcd.DefaultStaleness
		source, err := from.engine()
		if err != nil {
			return fmt.Errorf("from: %w", err)
		}
		target, err := to.engine()
		if err != nil {
			return fmt.Errorf("to: %w", err)
		}
		if source.remote() == target.remote() {
			return errors.New("to: expected another kind of store than --from: the file and etcd")
		}
		if err := makeDataFolder(o.data); err != nil {
			return err
		}
		by := store.Actor{Kind: store.ActorOperator, At: time.Now()}
		contents, err := migrate(cmd.Context(), o.keysFile(), &to, source, target, by)
		if err != nil {
			return err
		}
		return o.print(contents, func(w io.Writer) {
			fmt.Fprintf(w, "%d users and %d keys moved\n", contents.Users, contents.Keys)
		})
	})
	f := cmd.Flags()
	f.StringVar(&from.where, "from", "file", "where everything is: file, in the data folder, or etcd://HOST:PORT,.../PREFIX, with etcd+tls over TLS")
	f.StringVar(&to.where, "to", "", "where it goes, likewise")
	to.access.flags(f, "store", "etcd")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func migrate(ctx context.Context, path string, access *storeSettings, source, target engine, by store.Actor) (_ records.Contents, err error) {
	if target.remote() {
		options, err := access.options(target)
		if err != nil {
			return records.Contents{}, err
		}
		file, err := bolt.Open(ctx, path, bolt.Options{ReadOnly: true})
		if err != nil {
			return records.Contents{}, err
		}
		contents, err := etcd.Load(ctx, options, file, by)
		return contents, errors.Join(err, file.Close())
	}
	options, err := access.options(source)
	if err != nil {
		return records.Contents{}, err
	}
	shared, err := etcd.Open(ctx, options)
	if err != nil {
		return records.Contents{}, err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	if others := shared.Stats().Replicas - 1; others > 0 {
		return records.Contents{}, fmt.Errorf("from: %d replicas use it: stop them first", others)
	}
	return bolt.Load(ctx, path, shared, by)
}
