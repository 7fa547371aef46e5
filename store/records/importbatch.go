package records

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

type userLine struct {
	line int
	user *store.User
}

type keyLine struct {
	line  int
	entry keyEntry
}

// recordLine is a line that is one record and nothing else.
type recordLine struct {
	line          int
	bucket, field string
	place, record []byte
}

// importBatch puts the lines of an import bucket by bucket, each in its own
// order: the pages of one transaction are split only when it is committed, and
// till then each record that is put before others moves all of them.
type importBatch struct {
	users  []userLine
	keys   []keyLine
	others []recordLine

	ctx  context.Context
	tx   Tx
	done int

	err  error // that of the first line to blame, or one that is no line's
	line int   // 0: none, or no line's
}

// begin starts anew in a transaction.
func (b *importBatch) begin(ctx context.Context, tx Tx) {
	b.ctx, b.tx, b.done, b.err, b.line = ctx, tx, 0, nil, 0
}

// blame keeps an error of a line unless an earlier one is to blame already.
func (b *importBatch) blame(line int, err error) {
	if b.err == nil || b.line > line {
		b.err, b.line = fmt.Errorf("line %d: %w", line, err), line
	}
}

// fatal reports whether there is no use in going on: every line's fault but
// the first would be the file's, or ctx is done.
func (b *importBatch) fatal(err error) bool {
	if b.done++; err == nil && b.done%256 == 0 && b.ctx.Err() != nil {
		err = errors.Join(store.ErrUnavailable, b.ctx.Err())
	}
	if err != nil {
		b.err, b.line = err, 0
	}
	return b.err != nil && b.line == 0
}

// put adds a record that must be new, and reports whether to go on. A record
// that is there is the fault of the line's field.
func (b *importBatch) put(line int, field, bucket string, key, value []byte) bool {
	taken, err := b.tx.Get(bucket, key)
	if err == nil && taken != nil {
		b.blame(line, &apikey.FieldError{Field: field, Err: store.ErrExists})
		return true
	}
	if err == nil {
		err = b.tx.Put(bucket, key, value)
	}
	return !b.fatal(err)
}

func (b *importBatch) insertUsers() {
	slices.SortStableFunc(b.users, func(x, y userLine) int { return cmp.Compare(x.user.ID, y.user.ID) })
	type entry struct {
		line  int
		login login
		place []byte
	}
	var logins []entry
	for _, u := range b.users {
		place := idKey(u.user.ID)
		if !b.put(u.line, "user.id", UsersBucket, place, encodeUser(u.user)) {
			return
		}
		for _, login := range loginsOf(u.user) {
			logins = append(logins, entry{u.line, login, place})
		}
	}
	slices.SortFunc(logins, func(x, y entry) int {
		return cmp.Or(cmp.Compare(x.login.text, y.login.text), cmp.Compare(x.line, y.line))
	})
	for _, e := range logins {
		if !b.put(e.line, "user."+e.login.field, LoginsBucket, []byte(e.login.text), e.place) {
			return
		}
	}
}

func (b *importBatch) insertKeys() {
	if b.err != nil && b.line == 0 {
		return
	}
	type entry struct {
		line int
		hash apikey.Hash
		id   apikey.KeyID
	}
	hashes := make([]entry, 0, len(b.keys))
	for i := range b.keys {
		for _, hash := range b.keys[i].entry.hashes {
			hashes = append(hashes, entry{b.keys[i].line, hash, b.keys[i].entry.id})
		}
	}
	slices.SortFunc(hashes, func(x, y entry) int { return cmp.Or(bytes.Compare(x.hash[:], y.hash[:]), cmp.Compare(x.line, y.line)) })
	for i := range hashes {
		if e := &hashes[i]; !b.put(e.line, "key.hash", HashesBucket, e.hash[:], idKey(e.id)) {
			return
		}
	}
	b.sortKeys(func(x, y *keyEntry) int { return cmp.Compare(x.id, y.id) })
	for i := range b.keys {
		e, line := &b.keys[i].entry, b.keys[i].line
		owner, err := b.tx.Get(UsersBucket, idKey(e.owner))
		if b.fatal(err) {
			return
		}
		if owner == nil {
			b.blame(line, &apikey.FieldError{Field: "key.owner", Err: store.ErrNotFound})
		}
		if !b.put(line, "key.id", KeysBucket, idKey(e.id), e.record) {
			return
		}
		if e.used && b.fatal(putLastUsed(b.tx, idKey(e.id), e.lastUsed)) {
			return
		}
	}
	b.sortKeys(func(x, y *keyEntry) int { return cmp.Or(cmp.Compare(x.owner, y.owner), cmp.Compare(x.id, y.id)) })
	for i := range b.keys {
		if e := &b.keys[i].entry; !b.put(b.keys[i].line, "key.id", OwnersBucket, appendID(idKey(e.owner), e.id), nil) {
			return
		}
	}
}

func (b *importBatch) insertOthers() {
	if b.err != nil && b.line == 0 {
		return
	}
	slices.SortFunc(b.others, func(x, y recordLine) int {
		return cmp.Or(cmp.Compare(x.bucket, y.bucket), bytes.Compare(x.place, y.place), cmp.Compare(x.line, y.line))
	})
	for i := range b.others {
		if o := &b.others[i]; !b.put(o.line, o.field, o.bucket, o.place, o.record) {
			return
		}
	}
}

// sortKeys sorts keys, and equal ones by their lines.
func (b *importBatch) sortKeys(compare func(x, y *keyEntry) int) {
	slices.SortFunc(b.keys, func(x, y keyLine) int {
		return cmp.Or(compare(&x.entry, &y.entry), cmp.Compare(x.line, y.line))
	})
}
