package boltfile

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// compactBytes is how much one transaction of [Compact] copies.
const compactBytes = 16 << 20

// Compact writes the records of the file at path, which nobody may have open,
// into a new file without free space, and puts that in its place in one step.
// It returns the size in bytes before and after.
func Compact(ctx context.Context, path string, o Options) (before, after int64, err error) {
	if o, err = o.withDefaults(); err != nil {
		return 0, 0, err
	}
	o.ReadOnly = false
	if before, after, err = compact(ctx, path, o); err != nil {
		return before, before, fmt.Errorf("compacting %s: %w", path, err)
	}
	return before, after, nil
}

func compact(ctx context.Context, path string, o Options) (before, after int64, err error) {
	source, err := open(ctx, path, o)
	if err != nil {
		return 0, 0, err
	}
	// It stays locked until the new file has taken its place.
	defer func() { err = errors.Join(err, source.Close()) }()
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	before = info.Size()
	err = replaceFile(ctx, path, o, func(temp string) error {
		if err := source.view(func(tx *Tx) error { return copyRecords(ctx, tx, temp, o) }); err != nil {
			return err
		}
		info, err := os.Stat(temp)
		if err != nil {
			return err
		}
		after = info.Size()
		_, err = verify(ctx, temp, o)
		return err
	})
	return before, after, err
}

// copyRecords makes a file at temp that holds what tx sees.
func copyRecords(ctx context.Context, from *Tx, temp string, o Options) error {
	if err := from.readState(); err != nil {
		return err
	}
	names := make([]string, 0, len(from.state.buckets))
	for _, b := range from.state.buckets {
		names = append(names, b.name)
	}
	o.Version = from.state.version
	return build(temp, o, func(b *builder) error {
		if err := b.step(func(tx *Tx) error { return tx.createBuckets(names) }); err != nil {
			return err
		}
		for _, name := range names {
			if err := b.copyBucket(ctx, from, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyBucket copies one bucket in transactions of bounded size.
func (b *builder) copyBucket(ctx context.Context, from *Tx, name string) error {
	last, err := from.bucketState(name)
	if err != nil {
		return err
	}
	var keys, values [][]byte
	size := 0
	flush := func() error {
		err := b.step(func(tx *Tx) error {
			// Keys come in order, so no page is split again.
			tx.tx.Bucket([]byte(name)).FillPercent = 0.95
			for i := range keys {
				if err := tx.Put(name, keys[i], values[i]); err != nil {
					return err
				}
			}
			return tx.SetSequence(name, last.sequence)
		})
		keys, values, size = keys[:0], values[:0], 0
		return err
	}
	err = from.Scan(name, nil, func(key, value []byte) error {
		keys, values = append(keys, key), append(values, value)
		if size += len(key) + len(value); size < compactBytes {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
