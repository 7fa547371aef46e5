package boltfile_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/internal/boltfile/boltfiletest"
)

// The workload: four workers make changes 1, 2, 3 and so on, at the same time.
// Change n of a worker adds records, removes those of change n-3, and says so
// in the worker's head. So what the file must hold follows from four numbers.
const (
	workers        = 4
	changesOfRound = 25
	lossRounds     = 2
)

// parts returns the records that change n of worker w adds.
func parts(w, n int) map[string][]byte {
	random := rand.New(rand.NewPCG(uint64(w), uint64(n)))
	all := map[string][]byte{}
	for i := range 1 + random.IntN(5) {
		size := random.IntN(3000)
		if random.IntN(20) == 0 {
			size = 60_000
		}
		all[fmt.Sprintf("%d/%04d/%d/%08x", w, n, i, random.Uint32())] = bytes.Repeat([]byte{byte(n), byte(w)}, size/2)
	}
	return all
}

func apply(tx *boltfile.Tx, w, n int) error {
	for key, value := range parts(w, n) {
		if err := tx.Put("a", []byte(key), value); err != nil {
			return err
		}
	}
	for key := range parts(w, n-3) {
		if err := tx.Delete("a", []byte(key)); err != nil {
			return err
		}
	}
	return tx.Put("b", fmt.Append(nil, w), binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// content is what the file must hold after change head of each worker.
func content(heads [workers]int) map[string]string {
	all := map[string]string{}
	for w, head := range heads {
		if head > 0 {
			all["b/"+fmt.Sprint(w)] = string(binary.BigEndian.AppendUint64(nil, uint64(head)))
		}
		for n := max(1, head-2); n <= head; n++ {
			for key, value := range parts(w, n) {
				all["a/"+key] = string(value)
			}
		}
	}
	return all
}

// Changes, growth, a compaction and a restored backup, with the power lost at
// any moment: nothing that was acknowledged is lost, nothing is there in part,
// and no image is refused.
func TestPowerLoss(t *testing.T) {
	boltfiletest.PowerLoss(t, boltfiletest.PowerLossOptions{Images: 400, Workload: lossWorkload, Check: checkLoss})
}

func lossWorkload(t *testing.T, dir string, ack func(int)) {
	path := filepath.Join(dir, "file")
	for round := range lossRounds {
		f, err := boltfile.Open(t.Context(), path, options)
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				for i := range changesOfRound {
					n := round*changesOfRound + i + 1
					if err := f.Update(context.Background(), func(tx *boltfile.Tx) error { return apply(tx, w, n) }); err != nil {
						t.Error(err)
						return
					}
					ack(w*1000 + n)
				}
			})
		}
		group.Wait()
		var backup bytes.Buffer
		if _, err := f.Backup(t.Context(), &backup); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := boltfile.Restore(t.Context(), path, &backup, options); err != nil {
			t.Fatal(err)
		}
		if _, _, err := boltfile.Compact(t.Context(), path, options); err != nil {
			t.Fatal(err)
		}
	}
}

func checkLoss(dir string, acked map[int]bool) (err error) {
	f, err := boltfile.Open(context.Background(), filepath.Join(dir, "file"), options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	got, err := contents(f)
	if err != nil {
		return err
	}
	var heads [workers]int
	for w := range heads {
		if head, found := got["b/"+fmt.Sprint(w)]; found {
			heads[w] = int(binary.BigEndian.Uint64([]byte(head)))
		}
	}
	for number := range acked {
		if w, n := number/1000, number%1000; n > heads[w] {
			return fmt.Errorf("%w: change %d of worker %d; its last is %d", boltfiletest.ErrLost, n, w, heads[w])
		}
	}
	if err := same(got, content(heads)); err != nil {
		return fmt.Errorf("%w: %w", boltfiletest.ErrHalfApplied, err)
	}
	// What survived can be gone on with.
	return f.Update(context.Background(), func(tx *boltfile.Tx) error { return apply(tx, 0, heads[0]+1) })
}

func contents(f *boltfile.File) (map[string]string, error) {
	all := map[string]string{}
	err := f.View(context.Background(), func(tx *boltfile.Tx) error {
		for _, bucket := range options.Buckets {
			err := tx.Scan(bucket, nil, func(key, value []byte) error {
				all[bucket+"/"+string(key)] = string(value)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

func same(got, want map[string]string) error {
	for key, value := range want {
		if other, found := got[key]; !found || other != value {
			return fmt.Errorf("record %q: found %v, %d bytes, expected %d", key, found, len(other), len(value))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d records, expected %d", len(got), len(want))
	}
	return nil
}
