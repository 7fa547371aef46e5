package boltfile

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Errors of this package, each wrapped with the file and what was being done.
var (
	// ErrFull says that the disk, the quota or the file size limit has no
	// room for a change. Nothing was changed; the same change succeeds once
	// there is room.
	ErrFull = errors.New("no space left for the change")
	// ErrUnavailable says that a change could not be made or confirmed. Where
	// it could not be confirmed in time it may still have been made.
	ErrUnavailable = errors.New("the file cannot be written")
	// ErrDamaged says that the file fails its own proof. Nothing in it is
	// trusted from then on.
	ErrDamaged = errors.New("the file is damaged")
	// ErrForeign says that the file is something else than what was asked
	// for.
	ErrForeign = errors.New("the file is not what was expected")
	// ErrNewer says that a later version of the program wrote the file.
	ErrNewer = errors.New("the file was written by a newer version")
	// ErrOlder says that an earlier version of the program wrote the file,
	// and that there is no [Options.Migrate] to bring it up.
	ErrOlder = errors.New("the file was written by an older version")
	// ErrLocked says that another process, or another [File], has it open.
	ErrLocked = errors.New("the file is in use")
	// ErrClosed says that the File was closed.
	ErrClosed = errors.New("the file is closed")
	// ErrPermissions says that others than the owner may read or write the
	// file, or that the path is not a plain file.
	ErrPermissions = errors.New("the file's permissions are not safe")
)

const (
	adviseRestore = "restore it from a backup with `tokenkit-authz store restore`"
	adviseFolder  = "choose another data folder"
)

// damage is what a scan found, without the name of the file.
type damage struct{ what string }

func (d *damage) Error() string        { return ErrDamaged.Error() + ": " + d.what }
func (d *damage) Is(target error) bool { return target == ErrDamaged }

func damagedf(format string, args ...any) error {
	return &damage{fmt.Sprintf(format, args...)}
}

// refuse names the file and says what to do about it.
func refuse(path string, err error, advice string) error {
	return fmt.Errorf("%s: %w; %s", path, err, advice)
}

// writeError says which of this package's errors a failed write is. The
// library below drops the number of some errors and keeps their text.
func writeError(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, full) || strings.HasSuffix(err.Error(), full.Error()) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
