//go:build !linux

package pwhash

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// lowerPriority gives this process the lowest priority that there is.
func lowerPriority() error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("lowering the priority: %w", err)
	}
	return nil
}
