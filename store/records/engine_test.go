package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/storetest"
	"go.uber.org/goleak"
)

// TestMain keeps the files of tests in memory where it can.
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if info, err := os.Stat(memory); err == nil && info.IsDir() && os.Getenv("TMPDIR") == "" {
		_ = os.Setenv("TMPDIR", memory)
	}
	goleak.VerifyTestMain(m)
}

// fileEngine is an engine over a real file.
type fileEngine struct{ file *boltfile.File }

func openFile(path string) (*fileEngine, error) {
	file, err := boltfile.Open(context.Background(), path, boltfile.Options{Kind: "records", Version: 1, Buckets: Buckets()})
	if err != nil {
		return nil, err
	}
	return &fileEngine{file}, nil
}

func translated(err error) error {
	for from, to := range map[error]error{boltfile.ErrUnavailable: store.ErrUnavailable, boltfile.ErrDamaged: store.ErrDamaged, boltfile.ErrClosed: store.ErrClosed} {
		if errors.Is(err, from) {
			err = errors.Join(err, to)
		}
	}
	return err
}

func (e *fileEngine) View(ctx context.Context, fn func(Tx) error) error {
	return translated(e.file.View(ctx, func(tx *boltfile.Tx) error { return fn(tx) }))
}

func (e *fileEngine) Update(ctx context.Context, fn func(Tx) error) error {
	return translated(e.file.Update(ctx, func(tx *boltfile.Tx) error { return fn(tx) }))
}

func (e *fileEngine) Close() error { return translated(e.file.Close()) }

// twice runs each change twice, the first time in vain, and checks after each
// that the indexes are what is derived of the primary records.
type twice struct{ *fileEngine }

var errTakenBack = errors.New("taken back")

func (e twice) Update(ctx context.Context, fn func(Tx) error) error {
	err := e.fileEngine.Update(ctx, func(tx Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return errTakenBack
	})
	if !errors.Is(err, errTakenBack) {
		return err
	}
	return e.fileEngine.Update(ctx, func(tx Tx) error {
		if err := fn(tx); err != nil {
			return fmt.Errorf("the second time: %w", err)
		}
		return derivable(tx)
	})
}

// derivable compares the indexes with what is derived.
func derivable(tx Tx) error {
	derived := map[string][]byte{}
	for _, bucket := range PrimaryBuckets() {
		err := tx.Scan(bucket, nil, func(key, record []byte) error {
			entries, err := Derive(nil, bucket, key, record)
			for _, e := range entries {
				derived[e.Bucket+" "+string(e.Key)] = bytes.Clone(e.Value)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, bucket := range []string{HashesBucket, OwnersBucket, LoginsBucket, SignedInBucket, EndsBucket} {
		err := tx.Scan(bucket, nil, func(key, value []byte) error {
			want, found := derived[bucket+" "+string(key)]
			if !found || !bytes.Equal(want, value) {
				return fmt.Errorf("an entry of %q is not derived: %x, %x", bucket, key, value)
			}
			delete(derived, bucket+" "+string(key))
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(derived) > 0 {
		return fmt.Errorf("%d entries are derived and not there", len(derived))
	}
	return nil
}

// The whole suite passes where each change is tried twice, and what it writes
// into indexes is what [Derive] says.
func TestChangesMayRunTwiceAndIndexesAreDerived(t *testing.T) {
	storetest.Run(t, func(dir string) storetest.Opener {
		return func() (store.Store, error) {
			file, err := openFile(filepath.Join(dir, "keys.db"))
			if err != nil {
				return nil, err
			}
			return New(twice{file}, Options{AuditEvents: 100_000, ExpiredAtOnce: 2}), nil
		}
	})
}
