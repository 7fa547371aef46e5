package records

import (
	"context"
	"io"
	"strconv"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// ExportOptions says what an export holds.
type ExportOptions struct {
	// PasswordHashes includes those of users, and invitations. Without them,
	// users who were imported cannot sign in until their passwords are set.
	PasswordHashes bool
}

// Export writes all users, keys and events as they are at one moment, as JSON
// lines, while the store is in use. Of keys it has the hashes of their secrets,
// which are not secret; sessions it leaves out. [Store.Import] reads it.
func (s *Store) Export(ctx context.Context, w io.Writer, o ExportOptions) error {
	err := s.engine.View(ctx, func(tx Tx) error {
		export := store.NewExportWriter(w, o.PasswordHashes)
		if err := eachUser(ctx, tx, export.User); err != nil {
			return err
		}
		if err := eachKey(ctx, tx, export.Key); err != nil {
			return err
		}
		var last store.LastIDs
		for _, of := range []struct {
			bucket string
			set    func(uint64)
		}{
			{UsersBucket, func(n uint64) { last.User = apikey.UserID(n) }},
			{KeysBucket, func(n uint64) { last.Key = apikey.KeyID(n) }},
			{EventsBucket, func(n uint64) { last.Event = n }},
		} {
			if s.first && of.bucket == EventsBucket {
				return export.Close(last)
			}
			n, err := tx.Sequence(of.bucket)
			if err != nil {
				return err
			}
			of.set(n)
		}
		if err := eachInvitation(ctx, tx, export.Invitation); err != nil {
			return err
		}
		if err := eachEvent(ctx, tx, export.Event); err != nil {
			return err
		}
		return export.Close(last)
	})
	return failed("exporting store", err)
}

// Import adds what an export holds, under its ids, in one change: all of it
// or, where something is not valid or is there already, nothing. The error
// names the first line that is to blame and its field. No id of the export's
// store is given again. Last comes an event of the import itself.
//
// All that is read is held in memory, about 1 KiB a key, and the engine must
// allow for a change of that size.
func (s *Store) Import(ctx context.Context, r io.Reader, by store.Actor) (store.ExportEnd, error) {
	by = by.Stored()
	var batch importBatch
	end, err := store.ReadExport(r, store.ExportReader{
		User: func(line int, user *store.User) error {
			batch.users = append(batch.users, userLine{line, user})
			return ctx.Err()
		},
		Key: func(line int, key *apikey.Key) error {
			batch.keys = append(batch.keys, keyLine{line, newEntry(key, encodeKey(key))})
			return ctx.Err()
		},
		Invitation: func(line int, invitation *store.Invitation) error {
			batch.others = append(batch.others, recordLine{
				line: line, bucket: InvitationsBucket, field: "invitation.hash", place: invitation.ID[:], record: encodeInvitation(invitation),
			})
			return ctx.Err()
		},
		Event: func(line int, event *store.Event) error {
			batch.others = append(batch.others, recordLine{
				line: line, bucket: EventsBucket, field: "event.id", place: idKey(int64(event.ID)), record: encodeEvent(event),
			})
			return ctx.Err()
		},
	})
	if err != nil {
		return store.ExportEnd{}, failed("importing", err)
	}
	err = s.engine.Update(ctx, func(tx Tx) error {
		batch.begin(ctx, tx)
		batch.insertUsers()
		batch.insertKeys()
		batch.insertOthers()
		if batch.err != nil {
			return batch.err
		}
		for bucket, last := range map[string]uint64{
			UsersBucket: uint64(end.LastUserID), KeysBucket: uint64(end.LastKeyID), EventsBucket: end.LastEventID,
		} {
			if err := tx.SetSequence(bucket, last); err != nil {
				return err
			}
		}
		return s.note(tx, &store.Event{By: by, Action: store.ActionImport, TargetKind: store.TargetStore, Changes: []store.Change{
			{Field: "users", To: strconv.Itoa(end.Users)}, {Field: "keys", To: strconv.Itoa(end.Keys)},
			{Field: "invitations", To: strconv.Itoa(end.Invitations)}, {Field: "events", To: strconv.Itoa(end.Events)},
		}})
	})
	if err != nil {
		return store.ExportEnd{}, failed("importing", err)
	}
	return end, nil
}
