//go:build !linux

package boltfile

import "os"

// lockOwn takes no lock: only Linux has another one that belongs to what was
// opened. The one of the library below keeps other processes out, but for the
// moment in which a file that failed is opened anew.
func lockOwn(*os.File, int) error { return nil }

// syncData has the disk keep what was written.
func syncData(file *os.File) error { return file.Sync() }
