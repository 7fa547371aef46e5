package procs

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ProcessTime returns the CPU time that the process has used, in user and
// kernel mode.
func ProcessTime() (time.Duration, error) {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("reading the CPU time: %w", err)
	}
	return time.Duration(unix.TimevalToNsec(usage.Utime) + unix.TimevalToNsec(usage.Stime)), nil
}
