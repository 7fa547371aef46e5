// Package secretfile reads passwords and other secrets from files, so that
// they stand neither in a command nor in the environment.
//
//	password, err := secretfile.Read("/run/secrets/redis")
package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxLength is how many bytes a file may have.
const MaxLength = 4096

// loose are the permissions that a secret must not have: to change it for its
// group, and anything for everybody else.
const loose = 0o027

// Errors that Read returns, wrapped with the path.
var (
	// ErrPermissions says that others than the owner may change the file, or
	// that everybody may read it.
	ErrPermissions = errors.New("expected a file that only its owner may change and not everybody may read")
	// ErrEmpty says that nothing is in the file.
	ErrEmpty = errors.New("expected a secret, found nothing")
	// ErrTooLong says that the file has more than [MaxLength] bytes.
	ErrTooLong = fmt.Errorf("expected at most %d bytes", MaxLength)
)

// Read returns what is in a file, without line ends at its end. The path may
// be a symbolic link, as those of Kubernetes are; what it leads to must be a
// regular file that only its owner may change and that its owner and group
// alone may read.
func Read(path string) (secret []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}()
	file, err := os.Open(path)
	if err != nil {
		return nil, unwrapped(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, unwrapped(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("expected a regular file")
	}
	if mode := info.Mode().Perm(); mode&loose != 0 {
		return nil, fmt.Errorf("%w, got mode %04o; to fix it: chmod 600 %s", ErrPermissions, mode, path)
	}
	secret, err = io.ReadAll(io.LimitReader(file, MaxLength+1))
	if err != nil {
		return nil, unwrapped(err)
	}
	if len(secret) > MaxLength {
		return nil, ErrTooLong
	}
	if secret = bytes.TrimRight(secret, "\r\n"); len(secret) == 0 {
		return nil, ErrEmpty
	}
	return secret, nil
}

// unwrapped leaves out the path, which is said anyhow.
func unwrapped(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
