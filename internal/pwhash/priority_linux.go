package pwhash

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lowerPriority gives all threads of this process the policy SCHED_IDLE, under
// which they run where no other thread wants to, and gives way at once. Threads
// inherit it, so that it holds for those to come.
func lowerPriority() error {
	lowered := map[int]bool{}
	for before := -1; len(lowered) > before; {
		before = len(lowered)
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing the threads: %w", err)
		}
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil || lowered[id] {
				continue
			}
			if err := setIdle(id); err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("lowering the priority of a thread: %w", err)
			}
			lowered[id] = true
		}
	}
	return nil
}

// setIdle gives a thread the policy SCHED_IDLE. The newer sched_setattr would
// do as well, but what confines programs cannot tell which policy it is asked
// for, and allows either all or none.
func setIdle(thread int) error {
	// The only one that there is.
	var priority int32
	_, _, failure := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(thread), unix.SCHED_IDLE, uintptr(unsafe.Pointer(&priority))) //nolint:gosec // no package has this call
	if failure != 0 {
		return failure
	}
	return nil
}
