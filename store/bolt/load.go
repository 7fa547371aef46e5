package bolt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
)

const (
	loadStep    = 10_000           // records that one change of the file takes
	loadTimeout = 10 * time.Minute // for one such change
)

// Load makes a file at path, where there must be none, of all that another
// store holds: with all ids, hashes and sessions as they are. Until it is whole
// and verified, it stands beside path under another name; what an interrupted
// Load left there is made anew.
func Load(ctx context.Context, path string, from records.Source, by store.Actor) (records.Contents, error) {
	contents, err := load(ctx, path, from, by)
	return contents, failed("loading store", err)
}

func load(ctx context.Context, path string, from records.Source, by store.Actor) (contents records.Contents, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return contents, cmp.Or(err, fmt.Errorf("%s: expected no file there", path))
	}
	beside := path + ".loading"
	if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return contents, err
	}
	file, err := boltfile.Open(ctx, beside, Options{CommitTimeout: loadTimeout}.file())
	if err != nil {
		return contents, err
	}
	l := &loading{ctx: ctx, file: file}
	contents, err = from.Dump(ctx, by, l.record)
	if err == nil {
		err = l.finish(contents.Sequences)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return contents, errors.Join(err, os.Remove(beside))
	}
	if _, err := Verify(ctx, beside, Options{}); err != nil {
		return contents, err
	}
	if err := os.Rename(beside, path); err != nil {
		return contents, err
	}
	return contents, boltfile.SyncFolder(path)
}

// loading puts records into a file, and then their index entries, each bucket
// in its own order: a file is written best that way.
type loading struct {
	ctx     context.Context
	file    *boltfile.File
	waiting []records.Entry
	indexes []records.Entry
}

func (l *loading) record(e records.Entry) (err error) {
	if l.indexes, err = records.Derive(l.indexes, e.Bucket, e.Key, e.Value); err != nil {
		return err
	}
	l.waiting = append(l.waiting, e)
	if len(l.waiting) < loadStep {
		return nil
	}
	err = l.write(l.waiting)
	l.waiting = l.waiting[:0]
	return err
}

func (l *loading) write(entries []records.Entry) error {
	return l.file.Update(l.ctx, func(tx *boltfile.Tx) error {
		for i := range entries {
			if err := tx.Put(entries[i].Bucket, entries[i].Key, entries[i].Value); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *loading) finish(sequences map[string]uint64) error {
	if err := l.write(l.waiting); err != nil {
		return err
	}
	slices.SortFunc(l.indexes, func(a, b records.Entry) int {
		return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), bytes.Compare(a.Key, b.Key))
	})
	for some := range slices.Chunk(l.indexes, loadStep) {
		if err := l.write(some); err != nil {
			return err
		}
	}
	return l.file.Update(l.ctx, func(tx *boltfile.Tx) error {
		for bucket, last := range sequences {
			if err := tx.SetSequence(bucket, last); err != nil {
				return err
			}
		}
		return nil
	})
}
