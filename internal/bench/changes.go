package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/bench/load"
)

// changesPerSecond is how many keys are made or deleted a second.
const changesPerSecond = 200

// changes measures latency at a fixed rate with a million keys: of a service
// that has nothing else to do, of one whose keys change, and of one that is
// being backed up.
func (l *lab) changes() error {
	keys, err := keyStoreOf(l.ctx, l.program, million, true)
	if err != nil {
		return err
	}
	ours, err := l.serve(keys, 0)
	if err != nil {
		return err
	}
	front, err := l.startEnvoy(route{name: "ours", authz: ours.address})
	if err != nil {
		return err
	}
	at := func(name string, rate float64, during func(context.Context) (int, error)) *line {
		return &line{name: name, envoy: front.PID(), server: ours.pid(), during: during, job: load.Job{
			Address: front.addresses["ours"], Secrets: keys.secrets, Pick: load.Zipf, Rate: rate, Duration: max(l.duration, 3*time.Second),
		}}
	}
	rate, err := l.calmRate(at("ours", 0, nil))
	if err != nil {
		return err
	}
	client := admin.NewOperatorClient(filepath.Join(ours.data, "control.sock"))
	defer client.Close()
	idle := at("idle", rate, nil)
	changing := at(fmt.Sprintf("%d changes a second", changesPerSecond), rate, func(ctx context.Context) (int, error) { return changeKeys(ctx, client) })
	backup := at("backups", rate, func(ctx context.Context) (int, error) { return backUp(ctx, client) })
	if err := l.inRounds(idle, changing, backup); err != nil {
		return err
	}
	l.print("at %.0f requests/s:", rate)
	l.table(idle, changing, backup)
	l.print("changes to idle: p99 %v, p50 %v; %.0f changes were made a second", ratio(p99, changing, idle), ratio(p50, changing, idle), spreadOf(changing.often).median)
	l.print("backups to idle: p99 %v, p50 %v; %.2f backups of the whole store a second", ratio(p99, backup, idle), ratio(p50, backup, idle), spreadOf(backup.often).median)
	return nil
}

// changeKeys makes and deletes keys until ctx is done, and returns how many
// changes were made.
func changeKeys(ctx context.Context, client *admin.OperatorClient) (int, error) {
	const workers = 16
	due := make(chan struct{}, changesPerSecond)
	var made atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			var last apikey.KeyID
			for range due {
				// A change that was begun is ended, so that none is lost.
				var err error
				if last, err = change(context.WithoutCancel(ctx), client, last); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
				made.Add(1)
			}
		})
	}
	tick := time.NewTicker(time.Second / changesPerSecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			select {
			case due <- struct{}{}:
			default: // behind by a second already
			}
		}
	}
	n := int(made.Load())
	close(due)
	for range due { // what was not begun need not be
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return n, *err
	}
	return n, nil
}

// change deletes the last key, or makes one where there is none, and returns
// the key to delete next.
func change(ctx context.Context, client *admin.OperatorClient, last apikey.KeyID) (apikey.KeyID, error) {
	if last != 0 {
		_, err := client.DeleteKey(ctx, last)
		return 0, err
	}
	created, err := client.CreateKey(ctx, admin.OwnedKey{Owner: owner, NewKey: admin.NewKey{Name: "made-meanwhile"}})
	return apikey.KeyID(created.ID), err
}

// backUp copies the store, again and again, until ctx is done, and returns how
// often it was copied whole.
func backUp(ctx context.Context, client *admin.OperatorClient) (int, error) {
	for n := 0; ; n++ {
		_, err := client.Backup(ctx, io.Discard)
		if ctx.Err() != nil {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

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
