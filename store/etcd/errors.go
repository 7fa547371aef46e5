package etcd

import (
	"context"
	"errors"
	"fmt"

	"github.com/tokenkithq/authz/store"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// failure returns an error of the client in the terms of package store.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: etcd has reached its quota: %w", store.ErrFull, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return fmt.Errorf("%w: it is too large for one request to etcd (--max-request-bytes, --max-txn-ops): %w", store.ErrFull, err)
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// refused reports whether etcd has answered a change with a refusal, so that it
// was not made and never will be.
func refused(err error) bool {
	for _, is := range []error{
		rpctypes.ErrNoSpace, rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey,
		rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed, rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// unregistered reports whether a lease has ended.
func unregistered(err error) bool {
	return errors.Is(err, rpctypes.ErrLeaseNotFound)
}

// unavailable says why a change was not confirmed.
func unavailable(ctx context.Context, what string) error {
	return fmt.Errorf("%w: %s: %w", store.ErrUnavailable, what, context.Cause(ctx))
}
