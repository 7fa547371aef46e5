//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// starts is how often a cold start is measured.
const starts = 3

// coldStart starts the service over a million keys, of which the system has
// nothing in memory, and calls it from its first moment on.
func (l *lab) coldStart() error {
	keys, err := keyStoreOf(l.ctx, l.program, million, true)
	if err != nil {
		return err
	}
	for n := range starts {
		if err := l.startOnce(keys, uint64(n)); err != nil {
			return err
		}
		if err := l.stop(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) startOnce(keys *keyStore, seed uint64) error {
	data, err := os.MkdirTemp(l.dir, "data-")
	if err != nil {
		return err
	}
	if err := keys.copyTo(data); err != nil {
		return err
	}
	if err := forget(filepath.Join(data, "keys.db")); err != nil {
		return err
	}
	began := time.Now()
	c, err := l.serveOn(data, 0)
	if err != nil {
		return err
	}
	ready := time.Since(began)
	const seconds = 15
	result, err := l.load.Run(load.Job{
		Address: c.address, GRPC: true, Secrets: keys.secrets, Pick: load.Zipf, Seed: seed, Duration: seconds * time.Second, PIDs: []int{c.pid()},
	})
	if err != nil {
		return err
	}
	if result.Failed > 0 {
		return fmt.Errorf("%d of %d calls were not allowed: %v", result.Failed, result.Requests, result.Statuses)
	}
	var last []float64
	for _, n := range result.PerSecond[seconds-5:] {
		last = append(last, float64(n))
	}
	full := spreadOf(last).median
	l.print("serving after %v; calls in each second %v; 0.9 of the last five seconds' median from second %d on; slowest call %v; %d MiB",
		ready.Round(time.Millisecond), result.PerSecond, fullFrom(result.PerSecond, full), result.Max.Round(time.Millisecond), residentMiB(c.pid()))
	return nil
}

// fullFrom returns the first second, from 1 on, that has 0.9 of the full speed.
func fullFrom(perSecond []int, full float64) int {
	for i, n := range perSecond {
		if float64(n) >= 0.9*full {
			return i + 1
		}
	}
	return len(perSecond) + 1
}

// forget writes a file to the disk and drops it from memory.
func forget(path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := file.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
}
