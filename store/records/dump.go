package records

import (
	"bytes"
	"context"
	"strconv"

	"github.com/tokenkithq/authz/store"
)

// Source is where all records of a store come from. [Store] is one.
type Source interface {
	Dump(ctx context.Context, by store.Actor, fn func(Entry) error) (Contents, error)
}

// Contents says what there is in a store.
type Contents struct {
	Report
	// Sequences are the last numbers that were given, by bucket.
	Sequences map[string]uint64
}

// Dump verifies everything, and then calls fn with each primary record as it is
// at one moment: the buckets in the order of [PrimaryBuckets], and their keys
// ascending. Sessions are among them. Last comes an event, that by has moved all
// of this to another store. Index entries are not among them, see [Derive]. fn
// may keep what it is given; its error ends the dump.
func (s *Store) Dump(ctx context.Context, by store.Actor, fn func(Entry) error) (Contents, error) {
	contents := Contents{Sequences: map[string]uint64{}}
	err := s.engine.View(ctx, func(tx Tx) error {
		var err error
		if contents.Report, err = s.verify(ctx, tx); err != nil {
			return err
		}
		for _, bucket := range SequenceBuckets() {
			if s.first && bucket == EventsBucket {
				continue
			}
			if contents.Sequences[bucket], err = tx.Sequence(bucket); err != nil {
				return err
			}
		}
		for _, bucket := range PrimaryBuckets() {
			if s.first && (bucket == EventsBucket || bucket == InvitationsBucket) {
				continue
			}
			err := scan(ctx, tx, bucket, nil, func(key, value []byte) error {
				return fn(Entry{bucket, bytes.Clone(key), append([]byte{}, value...)})
			})
			if err != nil {
				return err
			}
		}
		event := &store.Event{By: by.Stored(), Action: store.ActionImport, TargetKind: store.TargetStore}
		for _, n := range []struct {
			field string
			count uint64
		}{
			{"users", contents.Users}, {"keys", contents.Keys}, {"sessions", contents.Sessions},
			{"invitations", contents.Invitations}, {"events", contents.Events},
		} {
			event.Changes = append(event.Changes, store.Change{Field: n.field, To: strconv.FormatUint(n.count, 10)})
		}
		contents.Sequences[EventsBucket]++
		contents.Events++
		id := int64(contents.Sequences[EventsBucket]) //nolint:gosec // far below
		return fn(Entry{EventsBucket, idKey(id), encodeEvent(event)})
	})
	return contents, failed("reading all of a store", err)
}
