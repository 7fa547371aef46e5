//go:build linux

package load

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time that a process has used, in user and system
// mode: what /proc/PID/stat shows in hundredths of a second, in nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	const scheduled = 2 // of the clocks of a process, the one that counts both
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &at); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}

// measured is the part of a job that counts.
type measured struct {
	job     Job
	began   time.Time // zero while warming up
	latency histogram
	result  Result
	cpu     []time.Duration // when it began
}

// begin starts to count.
func (m *measured) begin(now time.Time) error {
	m.began = now
	m.result.Statuses = make(map[int]int)
	m.result.PerSecond = make([]int, int(m.job.Duration/time.Second))
	return m.readCPU(&m.cpu)
}

func (m *measured) readCPU(to *[]time.Duration) error {
	*to = make([]time.Duration, len(m.job.PIDs))
	for i, pid := range m.job.PIDs {
		used, err := cpuTime(pid)
		if err != nil {
			return err
		}
		(*to)[i] = used
	}
	return nil
}

// answered counts one answer to what was due at a time.
func (m *measured) answered(due, now time.Time, status int) {
	if m.began.IsZero() || due.Before(m.began) {
		return
	}
	m.latency.record(now.Sub(due))
	m.result.Requests++
	m.result.Statuses[status]++
	if status != m.job.Want {
		m.result.Failed++
	}
	if second := int(now.Sub(m.began) / time.Second); second < len(m.result.PerSecond) {
		m.result.PerSecond[second]++
	}
}

// end stops to count.
func (m *measured) end(now time.Time) error {
	m.result.Elapsed = now.Sub(m.began)
	var cpu []time.Duration
	if err := m.readCPU(&cpu); err != nil {
		return err
	}
	for i := range cpu {
		cpu[i] -= m.cpu[i]
	}
	m.result.CPU = cpu
	return nil
}

// finish returns the result once the last answers are in.
func (m *measured) finish() *Result {
	m.result.P50, m.result.P99 = m.latency.quantile(0.5), m.latency.quantile(0.99)
	m.result.Max = m.latency.max
	return &m.result
}
