package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store/records"
)

// Backup writes a copy of the file as it is at one moment, while the store is
// in use, and returns how many bytes it wrote. [Restore] reads it.
func (s *Store) Backup(ctx context.Context, w io.Writer) (int64, error) {
	n, err := s.file.Backup(ctx, w)
	return n, failed("backing up store", err)
}

// Restore puts a backup in the place of the file at path, in one step: until
// the backup was read to its end and verified, the file stays as it is. A file
// that is open is not replaced.
func Restore(ctx context.Context, path string, backup io.Reader, o Options) error {
	return failed("restoring store", boltfile.Restore(ctx, path, backup, o.file()))
}

// Compact writes the file at path anew without the space that deleted records
// left, in one step, and returns its size in bytes before and after. The file
// must not be open.
func Compact(ctx context.Context, path string, o Options) (before, after int64, err error) {
	before, after, err = boltfile.Compact(ctx, path, o.file())
	return before, after, failed("compacting store", err)
}

// Report says what a file holds.
type Report struct {
	records.Report
	Bytes int64
}

// Verify reads all of the file at path, which it does not change: that every
// record is whole, that each is found by its index entries and each index
// entry leads to its record, and that all owners exist. The file must not be
// open for changes.
func Verify(ctx context.Context, path string, o Options) (Report, error) {
	o.ReadOnly = true
	s, err := Open(ctx, path, o)
	if err != nil {
		return Report{}, fmt.Errorf("verifying: %w", err)
	}
	found, err := s.Verify(ctx)
	if err := errors.Join(err, s.Close()); err != nil {
		return Report{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, failed("verifying store", err)
	}
	return Report{Report: found, Bytes: info.Size()}, nil
}
