package bolt

import (
	"context"
	"errors"
	"fmt"
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
		err = scan(ctx, tx, keysBucket, nil, func(place, _ []byte) error {
			id, err := idAt[apikey.KeyID](place)
			if err != nil {
				return err
			}
			key, err := loadKey(tx, id)
			if err != nil {
				return err
			}
			return export.Key(key)
		})
		if err != nil {
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
// names its line and field. No id of the export's store is given again.
//
// All that is read is held in memory, about 300 bytes a key, and
// [Options.CommitTimeout] must allow for the size: a million keys take half a
// minute.
func (s *Store) Import(ctx context.Context, r io.Reader) (store.ExportEnd, error) {
	type userLine struct {
		line   int
		user   *store.User
		record []byte
	}
	type keyLine struct {
		line  int
		entry keyEntry
	}
	var users []userLine
	var keys []keyLine
	end, err := store.ReadExport(r, store.ExportReader{
		User: func(line int, user *store.User) error {
			users = append(users, userLine{line, user, encodeUser(user)})
			return ctx.Err()
		},
		Key: func(line int, key *apikey.Key) error {
			keys = append(keys, keyLine{line, newEntry(key, encodeKey(key))})
			return ctx.Err()
		},
	})
	if err != nil {
		return store.ExportEnd{}, failed("importing", err)
	}
	err = s.file.Update(ctx, func(tx *boltfile.Tx) error {
		for i, u := range users {
			if i%256 == 0 && ctx.Err() != nil {
				return errors.Join(store.ErrUnavailable, ctx.Err())
			}
			if err := insertUser(tx, u.user, u.record); err != nil {
				return fmt.Errorf("line %d: user: %w", u.line, err)
			}
		}
		for i, k := range keys {
			if i%256 == 0 && ctx.Err() != nil {
				return errors.Join(store.ErrUnavailable, ctx.Err())
			}
			if err := insertKey(tx, k.entry); err != nil {
				return fmt.Errorf("line %d: key: %w", k.line, err)
			}
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
