//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tokenkithq/authz/internal/bench/load"
)

// scan measures the latency of good keys while keys are guessed at the same
// rate, against that while as many more good ones are used.
func (l *lab) scan() (err error) {
	keys, err := keyStoreOf(l.ctx, l.program, million, true)
	if err != nil {
		return err
	}
	ours, err := l.serve(keys, 0, withoutBlocks...)
	if err != nil {
		return err
	}
	front, err := l.startEnvoy(route{name: "ours", authz: ours.address})
	if err != nil {
		return err
	}
	other, err := load.Start(l.ctx, l.self, roleLoad)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	job := load.Job{Address: front.addresses["ours"], Secrets: keys.secrets, Pick: load.Zipf, Duration: max(l.duration, 3*time.Second)}
	rate, err := l.calmRate(&line{name: "ours", job: job})
	if err != nil {
		return err
	}
	job.Rate = rate / 2
	at := func(name string, pick load.Pick, want int) *line {
		return &line{name: name, envoy: front.PID(), server: ours.pid(), job: job, during: func(context.Context) (int, error) {
			beside := job
			beside.Pick, beside.Want, beside.Seed = pick, want, 99
			beside.Warmup = job.Duration / 5
			result, err := other.Run(beside)
			if err != nil {
				return 0, err
			}
			if result.Failed > 0 {
				return 0, fmt.Errorf("%d of %d other answers were not as expected: %v", result.Failed, result.Requests, result.Statuses)
			}
			return result.Requests, nil
		}}
	}
	good, guessed := at("beside good keys", load.Zipf, http.StatusOK), at("beside guessed keys", load.Absent, http.StatusUnauthorized)
	if err := l.inRounds(good, guessed); err != nil {
		return err
	}
	l.print("good keys at %.0f requests/s, as many others beside them:", job.Rate)
	l.table(good, guessed)
	l.print("beside guessed keys to beside good ones: p99 %v, p50 %v", ratio(p99, guessed, good), ratio(p50, guessed, good))
	return nil
}
