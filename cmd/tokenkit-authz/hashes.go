package main

import (
	"context"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/internal/pwhash"
)

// hashCommand is what serve has its helpers run.
const hashCommand = "hash-passwords"

func newHashPasswords(std streams) *cobra.Command {
	return &cobra.Command{
		Use:    hashCommand,
		Short:  "Hash passwords for serve, which starts this by itself",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			signal.Ignore(syscall.SIGHUP) // which tells serve to read its settings
			return pwhash.Serve(std.in, std.out)
		},
	}
}

// newHashes returns what hashes passwords beside this program.
func newHashes(logger *slog.Logger) *pwhash.Pool {
	return pwhash.New(pwhash.Options{
		Command: pwhash.Self(hashCommand), Processes: admin.HashesAtOnce(),
		Failed: func(err error) {
			logger.Warn("passwords are hashed by the service itself, which slows Checks down: no helper process of low priority runs", "error", err)
		},
	})
}

// hashElsewhere shows a pool to the admin API.
func hashElsewhere(p *pwhash.Pool) func(context.Context, admin.PasswordInput) (admin.PasswordDigest, error) {
	return func(ctx context.Context, in admin.PasswordInput) (admin.PasswordDigest, error) {
		digest, took, err := p.Hash(ctx, pwhash.Request{
			Password: in.Password, Salt: in.Salt, Length: in.Length,
			MemoryKiB: in.Cost.MemoryKiB, Passes: in.Cost.Passes, Parallelism: in.Cost.Parallelism,
		})
		return admin.PasswordDigest{Digest: digest, Took: took}, err
	}
}
