package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/usage"
	"github.com/tokenkithq/authz/usage/usagefile"
)

// openUsage opens what counts calls, unless it is switched off.
func (v *service) openUsage(ctx context.Context) (err error) {
	if !v.settings.usage {
		return nil
	}
	if v.usageFile, err = usagefile.Open(ctx, v.settings.usageFile(), usagefile.Options{Committed: v.settings.committed()}); err != nil {
		return fmt.Errorf("%w (it holds only counts: the service also starts with --usage=false, or once the file is moved away)", err)
	}
	v.usage, err = usage.New(ctx, usage.Options{Journal: v.usageFile, Report: func(err error) {
		v.logger.Warn("saving usage failed; it is tried again", "error", err)
	}})
	return err
}

// runUsage writes counts until ctx is done.
func (v *service) runUsage(ctx context.Context) error {
	if v.usage == nil {
		return nil
	}
	return v.usage.Run(ctx)
}

// forgetful deletes what a key has done together with the key.
type forgetful struct {
	*store.Cache
	usage *usage.Recorder // may be nil
}

func (f forgetful) DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, by store.Actor) (*apikey.Key, error) {
	key, err := f.Cache.DeleteKey(ctx, owner, id, by)
	if err == nil && f.usage != nil {
		f.usage.Forget(id)
	}
	return key, err
}

func (f forgetful) DeleteKeys(ctx context.Context, owner apikey.UserID, ids []apikey.KeyID, by store.Actor) ([]*apikey.Key, error) {
	keys, err := f.Cache.DeleteKeys(ctx, owner, ids, by)
	if err == nil && f.usage != nil {
		for _, id := range ids {
			f.usage.Forget(id)
		}
	}
	return keys, err
}

// verifyUsage checks the usage file, if there is one yet.
func verifyUsage(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	file, err := usagefile.Open(ctx, path, usagefile.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	return errors.Join(file.Check(ctx), file.Close())
}
