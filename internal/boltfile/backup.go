package boltfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Backup writes a copy of the file to w, as it is when the call begins, and
// returns how many bytes it wrote. Reads and changes go on; the file grows by
// what they change until the copy is done. A copy that was cut off is refused
// by [Restore] and [Open].
func (f *File) Backup(ctx context.Context, w io.Writer) (written int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = f.view(func(tx *Tx) error {
		var err error
		written, err = tx.tx.WriteTo(&backupWriter{ctx: ctx, to: w})
		return err
	})
	if err != nil {
		return written, fmt.Errorf("backing up %s: %w", f.path, err)
	}
	return written, nil
}

// backupWriter puts the two meta pages, which the library below writes newest
// first, where the number of their transaction wants them: else the next
// commit would overwrite the newer one.
type backupWriter struct {
	ctx   context.Context
	to    io.Writer
	metas page // until both are there
	done  bool
}

func (w *backupWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.done {
		return w.to.Write(b)
	}
	w.metas = append(w.metas, b...)
	if len(w.metas) < 2*pageSize {
		return len(b), nil
	}
	w.done = true
	newest := order.Uint64(w.metas[headerSize+48:])
	first, second := w.metas[:pageSize], w.metas[pageSize:]
	older := newest - 1
	if newest%2 == 0 {
		writeMeta(second, older)
	} else {
		writeMeta(first, older)
		writeMeta(second, newest)
	}
	if _, err := w.to.Write(w.metas); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Verify checks the whole of a file that nobody changes and reports what it
// holds. It changes nothing.
func Verify(ctx context.Context, path string, o Options) (Report, error) {
	o.ReadOnly = true
	o, err := o.withDefaults()
	if err != nil {
		return Report{}, err
	}
	report, err := verify(ctx, path, o)
	if err != nil {
		return report, fmt.Errorf("verifying %w", err)
	}
	return report, nil
}

func verify(ctx context.Context, path string, o Options) (report Report, err error) {
	file, err := openLocked(ctx, path, o)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if report, err = scanFile(ctx, file, o); err != nil {
		return report, refuseScan(path, err)
	}
	return report, nil
}

// Restore reads a backup from r, verifies it, and puts it at path in one step.
// Until then the file at path stays as it is; one that is open is refused with
// [ErrLocked]. A damaged file at path is replaced, a foreign one, too.
func Restore(ctx context.Context, path string, r io.Reader, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	o.ReadOnly = false
	err = replaceFile(ctx, path, o, func(temp string) (err error) {
		release, err := holdIfThere(ctx, path, o)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, release()) }()
		return receive(ctx, temp, r, o)
	})
	if err != nil {
		return fmt.Errorf("restoring %s: %w", path, err)
	}
	return nil
}

// holdIfThere locks the file that is to be replaced.
func holdIfThere(ctx context.Context, path string, o Options) (release func() error, err error) {
	file, err := openLocked(ctx, path, o)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	return file.Close, nil
}

func receive(ctx context.Context, temp string, r io.Reader, o Options) (err error) {
	file, err := o.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return writeError(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := transfer(file, &contextReader{ctx, r}); err != nil {
		return err
	}
	if _, err := scanFile(ctx, file, o); err != nil {
		return fmt.Errorf("the backup: %w", err)
	}
	if err := file.Sync(); err != nil {
		return writeError(err)
	}
	return nil
}

// transfer copies r to w and tells the errors of the two apart.
func transfer(w io.Writer, r io.Reader) error {
	buffer := make([]byte, 1<<20)
	for {
		n, readErr := io.ReadFull(r, buffer)
		if _, err := w.Write(buffer[:n]); err != nil {
			return writeError(err)
		}
		if readErr == io.EOF || readErr == io.ErrUnexpectedEOF {
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("reading the backup: %w", readErr)
		}
	}
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
