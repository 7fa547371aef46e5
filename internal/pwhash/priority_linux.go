package pwhash

import (
	"errors"
	"fmt"
	"os"
	"strconv"

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
			err = unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
				return fmt.Errorf("lowering the priority of a thread: %w", err)
			}
			lowered[id] = true
		}
	}
	return nil
}
