package etcd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// view is a transaction that only reads.
type view struct{ *state }

var errReadOnly = errors.New("changing a record in View, expected Update")

func (v view) Get(name string, key []byte) ([]byte, error) {
	b, err := bucketOf(name)
	if err != nil {
		return nil, err
	}
	return v.get(b, key)
}

func (v view) Scan(name string, prefix []byte, fn func(key, value []byte) error) error {
	b, err := bucketOf(name)
	if err != nil {
		return err
	}
	return v.scan(b, prefix, fn)
}

func (v view) Sequence(name string) (uint64, error) {
	b, err := bucketOf(name)
	if err != nil {
		return 0, err
	}
	at, err := sequenceOf(b)
	if err != nil {
		return 0, err
	}
	return v.head.sequences[at], nil
}

func (v view) Count(name string) (uint64, error) {
	b, err := bucketOf(name)
	if err != nil {
		return 0, err
	}
	return uint64(v.trees[b].Len()), nil //nolint:gosec // a count
}

func (view) Put(string, []byte, []byte) error    { return errReadOnly }
func (view) Delete(string, []byte) error         { return errReadOnly }
func (view) NextSequence(string) (uint64, error) { return 0, errReadOnly }
func (view) SetSequence(string, uint64) error    { return errReadOnly }

// update is a transaction that collects its changes.
type update struct {
	view
	edit   *edit
	writes map[string]*string // by name below the prefix; nil: removed
	first  uint64             // the id of the first event
	noted  [][]byte           // records of events
	count  int                // of changes
	// replaces says that something is not as it was for those who saw it.
	replaces bool
}

func newUpdate(base *edit) *update {
	return &update{view: view{base.state}, edit: base, writes: map[string]*string{}}
}

func (u *update) Put(name string, key, value []byte) error {
	b, err := bucketOf(name)
	if err != nil {
		return err
	}
	if len(key) == 0 {
		return fmt.Errorf("bucket %q: expected a key", name)
	}
	u.count++
	both := string(key) + string(value)
	placed, record := both[:len(key)], both[len(key):]
	switch {
	case b == events:
		id := binary.BigEndian.Uint64(key)
		if len(u.noted) == 0 {
			u.first = id
		}
		if id != u.first+uint64(len(u.noted)) {
			return fmt.Errorf("event %d does not follow the one before", id)
		}
		u.noted = append(u.noted, bytesOf(record))
	case b < primaries:
		before, found := u.trees[b].Get(placed)
		if found && before == "" {
			return damagedRecord(b)
		}
		u.replaces = u.replaces || found
		u.writes[below(b, placed)] = &record
	}
	u.edit.tree(b).Set(placed, record)
	return nil
}

func (u *update) Delete(name string, key []byte) error {
	b, err := bucketOf(name)
	if err != nil {
		return err
	}
	before, found := u.trees[b].Get(textOf(key))
	if !found {
		return nil
	}
	if b < primaries && before == "" {
		return damagedRecord(b)
	}
	u.count++
	if b < primaries {
		u.replaces = true
		u.writes[below(b, string(key))] = nil
		if b == keys {
			// One that another replica writes meanwhile goes as well.
			u.writes[below(lastUsed, string(key))] = nil
		}
	}
	u.edit.tree(b).Delete(textOf(key))
	return nil
}

// Scan goes on after the key that fn was called with, whatever fn changed.
func (u *update) Scan(name string, prefix []byte, fn func(key, value []byte) error) error {
	b, err := bucketOf(name)
	if err != nil {
		return err
	}
	for from := bytes.Clone(prefix); ; {
		count, again := u.count, false
		var last []byte
		err := u.scan(b, from, prefix, func(key, value []byte) error {
			if count != u.count {
				again = true
				return errAgain
			}
			last = key
			return fn(key, value)
		})
		if !again {
			return err
		}
		from = append(bytes.Clone(last), 0)
	}
}

var errAgain = errors.New("the tree has changed")

// scan is [state.scan] from a key on, which must not be below prefix. The tree
// that it goes through is not changed meanwhile.
func (u *update) scan(b bucket, from, prefix []byte, fn func(key, value []byte) error) (err error) {
	u.edit.lock.Lock()
	fixed := u.trees[b].Copy()
	u.edit.lock.Unlock()
	fixed.Ascend(textOf(from), func(key, value string) bool {
		switch {
		case !strings.HasPrefix(key, textOf(prefix)):
			return false
		case b < primaries && value == "":
			err = damagedRecord(b)
		default:
			err = fn(bytesOf(key), bytesOf(value))
		}
		return err == nil
	})
	return err
}

func (u *update) NextSequence(name string) (uint64, error) {
	last, err := u.Sequence(name)
	if err != nil {
		return 0, err
	}
	return last + 1, u.SetSequence(name, last+1)
}

func (u *update) SetSequence(name string, last uint64) error {
	b, err := bucketOf(name)
	if err != nil {
		return err
	}
	at, err := sequenceOf(b)
	if err == nil && last > u.head.sequences[at] {
		u.count++
		u.head.sequences[at] = last
	}
	return err
}

// maxOps is how many operations one transaction of etcd is given; its default
// limit is 128, also for those that are inside one that is inside another, all
// together.
const maxOps = 40

// ops returns what the transaction is in etcd, but for its condition and head.
func (u *update) ops(prefix string, trim *clientv3.Op) ([]clientv3.Op, error) {
	ops := make([]clientv3.Op, 0, len(u.writes)+2)
	size := 0
	put := func(name string, value []byte) {
		sealed := seal(name, value)
		size += len(prefix) + len(name) + len(sealed)
		ops = append(ops, clientv3.OpPut(prefix+name, sealed))
	}
	for name, value := range u.writes {
		if value == nil {
			size += len(prefix) + len(name)
			ops = append(ops, clientv3.OpDelete(prefix+name))
			continue
		}
		put(name, bytesOf(*value))
	}
	if len(u.noted) > 0 {
		put(below(packs, string(binary.BigEndian.AppendUint64(nil, u.first))), pack(u.noted))
	}
	if trim != nil {
		ops = append(ops, *trim)
	}
	for range 2 {
		ops = nested(ops)
	}
	if len(ops) > maxOps {
		return nil, fmt.Errorf("%w: it changes more than %d records at once", store.ErrFull, maxOps*maxOps*maxOps)
	}
	return ops, nil
}

// nested puts operations that are too many for one transaction into several
// inside it.
func nested(ops []clientv3.Op) []clientv3.Op {
	if len(ops) <= maxOps {
		return ops
	}
	var outer []clientv3.Op
	for len(ops) > 0 {
		n := min(len(ops), maxOps)
		outer = append(outer, clientv3.OpTxn(nil, ops[:n:n], nil))
		ops = ops[n:]
	}
	return outer
}

var (
	_ records.Tx = view{}
	_ records.Tx = (*update)(nil)
)
