//go:build linux

package main

import (
	"context"
	"fmt"
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
	// Half of it leaves cores idle: else what is measured is that there are none.
	rate /= 2
	client := admin.NewOperatorClient(filepath.Join(ours.data, "control.sock"))
	defer client.Close()
	idle := at("idle", rate, nil)
	changing := at(fmt.Sprintf("%d changes a second", changesPerSecond), rate, func(ctx context.Context) (int, error) { return changeKeys(ctx, client) })
	backup := at("backups, one after the other", rate, func(ctx context.Context) (int, error) { return backUp(ctx, client) })
	lines := []*line{idle, changing, backup}
	if err := l.inRounds(lines...); err != nil {
		return err
	}
	l.print("at %.0f requests/s:", rate)
	l.table(lines...)
	l.print("changes to idle: p99 %v, p50 %v; %.0f changes were made a second", ratio(p99, changing, idle), ratio(p50, changing, idle), spreadOf(changing.often).median)
	l.print("backups to idle: p99 %v, p50 %v; %.0f MiB were copied a second", ratio(p99, backup, idle), ratio(p50, backup, idle), spreadOf(backup.often).median)
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
	return created.ID, err
}

// backUp copies the store, again and again, until ctx is done, and returns how
// many MiB were copied.
func backUp(ctx context.Context, client *admin.OperatorClient) (int, error) {
	var copied counter
	for {
		_, err := client.Backup(ctx, &copied)
		if ctx.Err() != nil {
			return int(copied) >> 20, nil //nolint:nilerr // it was told to end
		}
		if err != nil {
			return 0, err
		}
	}
}

// counter counts what is written to it, and keeps none.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
