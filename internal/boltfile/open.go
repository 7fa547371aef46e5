package boltfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// reservedMap is how much address space the map of a file takes at once. It
// costs no memory. While a file outgrows its map, the library below waits for
// every reader and lets none in, which a backup would turn into an outage.
const reservedMap = 16 << 30

// growStep is by how much a file grows at a time, in bytes. Each step is one
// more sync.
const growStep = 1 << 20

// open verifies an existing file and starts its writer.
func open(ctx context.Context, path string, o Options) (*File, error) {
	file, err := openLocked(ctx, path, o)
	if err != nil {
		return nil, err
	}
	report, err := scanFile(ctx, file, o)
	if err != nil {
		return nil, errors.Join(refuseScan(path, err), file.Close())
	}
	raw, err := duplicate(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	db, err := openMap(path, file, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), raw.Close())
	}
	f := &File{
		path: path, options: o, raw: raw, seeds: map[string]uint32{}, transaction: report.Transaction,
		queue: make(chan *update, queueLength), stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	for _, b := range report.Buckets {
		f.seeds[b.Name] = bucketSeed(b.Name)
	}
	f.epoch.Store(&epoch{db: db})
	if o.ReadOnly {
		close(f.stopped)
		return f, nil
	}
	go f.write()
	if report.Version < o.Version {
		if err := f.migrate(ctx, report.Version); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: from version %d to %d: %w", path, report.Version, o.Version, err), f.Close())
		}
	}
	return f, nil
}

func (f *File) migrate(ctx context.Context, from uint32) error {
	return f.Update(ctx, func(tx *Tx) error {
		if err := tx.createBuckets(f.options.Buckets); err != nil {
			return err
		}
		tx.state.version = f.options.Version
		tx.writes++
		return f.options.Migrate(tx, from)
	})
}

// openLocked opens path, locks it against other processes, and checks that it
// is a plain file that only its owner can read.
func openLocked(ctx context.Context, path string, o Options) (*os.File, error) {
	flag, how := os.O_RDWR, unix.LOCK_EX
	if o.ReadOnly {
		flag, how = os.O_RDONLY, unix.LOCK_SH
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, refuse(path, fmt.Errorf("%w: it is not a plain file (%v)", ErrPermissions, info.Mode().Type()), "name the file itself")
	}
	file, err := o.OpenFile(path, flag|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return nil, refuse(path, fmt.Errorf("%w: %w", ErrPermissions, err), "run as its owner, on a file system that can be written")
	}
	if err != nil {
		return nil, err
	}
	if err := check(ctx, path, file, how, o); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func check(ctx context.Context, path string, file *os.File, how int, o Options) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if loose := info.Mode().Perm() & 0o077; loose != 0 {
		return refuse(path, fmt.Errorf("%w: mode %04o lets others in", ErrPermissions, info.Mode().Perm()), "run `chmod 600 "+path+"`")
	}
	if err := lock(ctx, file, how, o.LockTimeout); err != nil {
		return refuse(path, err, "stop the other process first")
	}
	return nil
}

// lock keeps other processes out: by the lock that the library below takes,
// too, and before that by one that it does not know, and so cannot give up.
// Both belong to what was opened, not to the process, so that two Files in one
// process exclude each other, and so that a duplicate shares them.
func lock(ctx context.Context, file *os.File, how int, timeout time.Duration) error {
	if err := retry(ctx, timeout, func() error { return lockOwn(file, how) }); err != nil {
		return err
	}
	return lockFolder(ctx, file, how, timeout)
}

// lockFolder takes the only lock that a folder has.
func lockFolder(ctx context.Context, file *os.File, how int, timeout time.Duration) error {
	return retry(ctx, timeout, func() error { return unix.Flock(int(file.Fd()), how|unix.LOCK_NB) })
}

func retry(ctx context.Context, timeout time.Duration, try func() error) error {
	for deadline := time.Now().Add(timeout); ; {
		err := try()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("locking: %w", err)
		}
		if !time.Now().Before(deadline) {
			return ErrLocked
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrLocked, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func duplicate(file *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicating a descriptor: %w", err)
	}
	return os.NewFile(uintptr(fd), file.Name()), nil
}

// openMap hands a verified and locked file to the library below, which owns
// it from then on.
func openMap(path string, file *os.File, o Options) (db *bbolt.DB, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = damagedf("mapping: %v", reason)
		}
	}()
	options := bbolt.Options{
		Timeout:  o.LockTimeout,
		ReadOnly: o.ReadOnly,
		PageSize: pageSize,
		// The other kind of free list sorts all of it at each commit, which
		// took half of a change where an import had left 18,000 free pages. The
		// list is written with each commit: without it, opening and every
		// failed commit would read the whole tree once more, in a goroutine
		// whose panics nobody can recover.
		FreelistType:    bbolt.FreelistArrayType,
		InitialMmapSize: reservedMap,
		NoStatistics:    true,
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	}
	db, err = bbolt.Open(path, 0o600, &options)
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	db.AllocSize = growStep
	return db, nil
}

// SyncFolder makes the names in the folder of path survive a crash.
func SyncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		return errors.Join(fmt.Errorf("syncing the folder: %w", err), dir.Close())
	}
	return dir.Close()
}
