package bolt

import (
	"context"
	"io"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/store"
)

// ExportOptions says what an export holds.
type ExportOptions struct {
	// PasswordHashes includes those of users. Without them, users who were
	// imported cannot sign in until their passwords are set.
	PasswordHashes bool
}

// Export writes all users and keys as they are at one moment, as JSON lines,
// while the store is in use. Of keys it has the hashes of their secrets, which
// are not secret; sessions it leaves out. [Store.Import] reads it.
func (s *Store) Export(ctx context.Context, w io.Writer, o ExportOptions) error {
	err := s.file.View(ctx, func(tx *boltfile.Tx) error {
		export := store.NewExportWriter(w, o.PasswordHashes)
		err := scan(ctx, tx, usersBucket, nil, func(place, _ []byte) error {
			id, err := idAt[apikey.UserID](place)
			if err != nil {
				return err
			}
			user, err := loadUser(tx, id)
			if err != nil {
				return err
			}
			return export.User(user)
		})
		if err != nil {
			return err
		}
		if err := eachKey(ctx, tx, export.Key); err != nil {
			return err
		}
		lastUser, err := tx.Sequence(usersBucket)
		if err != nil {
			return err
		}
		lastKey, err := tx.Sequence(keysBucket)
		if err != nil {
			return err
		}
		return export.Close(apikey.UserID(lastUser), apikey.KeyID(lastKey))
	})
	return failed("exporting store", err)
}

// Import adds the users and keys of an export, under their ids, in one change:
// all of them or, where one is not valid or is there already, none. The error
// names the first line that is to blame and its field. No id of the export's
// store is given again.
//
// All that is read is held in memory, about 1 KiB a key, and
// [Options.CommitTimeout] must allow for the size.
func (s *Store) Import(ctx context.Context, r io.Reader) (store.ExportEnd, error) {
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
	})
	if err != nil {
		return store.ExportEnd{}, failed("importing", err)
	}
	err = s.file.Update(ctx, func(tx *boltfile.Tx) error {
		batch.ctx, batch.tx = ctx, tx
		batch.insertUsers()
		batch.insertKeys()
		if batch.err != nil {
			return batch.err
		}
		if err := tx.SetSequence(usersBucket, uint64(end.LastUserID)); err != nil {
			return err
		}
		return tx.SetSequence(keysBucket, uint64(end.LastKeyID))
	})
	if err != nil {
		return store.ExportEnd{}, failed("importing", err)
	}
	return end, nil
}
