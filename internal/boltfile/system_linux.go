package boltfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockOwn takes the lock that the library below does not know, of what was
// opened.
func lockOwn(file *os.File, how int) error {
	own := unix.Flock_t{Type: unix.F_WRLCK}
	if how == unix.LOCK_SH {
		own.Type = unix.F_RDLCK
	}
	return unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &own)
}

// syncData has the disk keep what was written.
func syncData(file *os.File) error { return unix.Fdatasync(int(file.Fd())) }
