package etcd

import (
	"bytes"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/btree"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
)

// tree is a bucket in memory. Copies share what they have in common.
type tree = btree.Map[string, string]

// state is all that is below the prefix, as it was at one revision. Once it is
// published it does not change.
type state struct {
	revision int64 // all up to this revision is in here
	trees    [buckets]*tree
	// unread counts the records of a primary bucket that have no index entries
	// since they cannot be read.
	unread   [primaries]int
	head     head
	headAt   int64 // the revision of the head; 0: there is none yet
	replicas map[string]int64
	broken   error // what makes all of it useless
}

// edit makes a new state of one that is published.
type edit struct {
	*state
	lock    *sync.Mutex // held while a tree is copied
	own     [buckets]bool
	ids     map[apikey.KeyID]struct{}
	hashes  map[apikey.Hash]struct{}
	used    map[apikey.KeyID]time.Time
	entries []records.Entry
	heads   []head // that were seen, in their order
}

func newState() *state {
	s := &state{replicas: map[string]int64{}}
	for i := range s.trees {
		s.trees[i] = btree.NewMap[string, string](32)
	}
	return s
}

func (s *state) edit(lock *sync.Mutex) *edit {
	copied := *s
	return &edit{state: &copied, lock: lock}
}

// tree returns a tree that may be changed.
func (e *edit) tree(b bucket) *tree {
	if !e.own[b] {
		e.lock.Lock()
		e.trees[b] = e.trees[b].Copy()
		e.lock.Unlock()
		e.own[b] = true
	}
	return e.trees[b]
}

// put takes in what was put under a name at a revision. It keeps nothing of
// value.
func (e *edit) put(name string, value []byte, revision int64) {
	b, key, isRecord := recordAt(name)
	switch {
	case isRecord:
		kept := ""
		if record, err := unseal(name, value); err == nil {
			// One allocation for both.
			both := key + string(record)
			key, kept = both[:len(key)], both[len(key):]
		} else {
			key = strings.Clone(key)
		}
		e.set(b, key, kept)
	case name == headKey:
		h, err := decodeHead(value)
		e.head, e.headAt, e.broken = h, revision, err
		e.heads = append(e.heads, h)
	case name == formatKey:
		if string(value) != formatText {
			e.broken = fmt.Errorf("%q was changed", formatKey)
		}
	case strings.HasPrefix(name, replicaKey):
		// A replica that begins has seen all up to then.
		seen := revision
		if said, err := strconv.ParseInt(string(value), 10, 64); err == nil && said > 0 {
			seen = said
		}
		e.replicas = maps.Clone(e.replicas)
		e.replicas[strings.Clone(name[len(replicaKey):])] = seen
	}
}

// delete takes in that what was under a name is gone.
func (e *edit) delete(name string) {
	b, key, isRecord := recordAt(name)
	switch {
	case isRecord:
		e.remove(b, key)
	case name == headKey || name == formatKey:
		e.broken = fmt.Errorf("%q was removed", name)
	case strings.HasPrefix(name, replicaKey):
		e.replicas = maps.Clone(e.replicas)
		delete(e.replicas, name[len(replicaKey):])
	}
}

// set puts a primary record, and its index entries in the place of those that
// it had.
func (e *edit) set(b bucket, key, record string) {
	e.forget(b, key)
	e.tree(b).Set(key, record)
	entries, err := derive(e.entries[:0], b, key, record)
	if err != nil {
		e.unread[b]++
	} else {
		e.entries = entries
	}
	for i := range entries {
		index, _ := bucketOf(entries[i].Bucket)
		e.tree(index).Set(textOf(entries[i].Key), textOf(entries[i].Value))
	}
	e.note(b, key, record, entries)
}

func (e *edit) remove(b bucket, key string) {
	e.forget(b, key)
	e.tree(b).Delete(key)
}

// forget removes the index entries of a record, if there is one.
func (e *edit) forget(b bucket, key string) {
	old, found := e.trees[b].Get(key)
	if !found {
		return
	}
	entries, err := derive(e.entries[:0], b, key, old)
	if err != nil {
		e.unread[b]--
	} else {
		e.entries = entries
	}
	e.note(b, key, old, entries)
	for i := range entries {
		index, _ := bucketOf(entries[i].Bucket)
		// Another record may have taken the entry over.
		if led, _ := e.trees[index].Get(textOf(entries[i].Key)); led == textOf(entries[i].Value) {
			e.tree(index).Delete(textOf(entries[i].Key))
		}
	}
}

// note remembers which keys change, for whoever wants to know.
func (e *edit) note(b bucket, key, record string, entries []records.Entry) {
	if b != keys && b != lastUsed || len(key) != 8 {
		return
	}
	id := apikey.KeyID(beginning(key)) //nolint:gosec // ids are below 2^63
	if b == lastUsed {
		if len(record) == 8 {
			if e.used == nil {
				e.used = map[apikey.KeyID]time.Time{}
			}
			e.used[id] = time.Unix(int64(beginning(record)), 0).UTC() //nolint:gosec // as it was written
		}
		return
	}
	if e.ids == nil {
		e.ids, e.hashes = map[apikey.KeyID]struct{}{}, map[apikey.Hash]struct{}{}
	}
	e.ids[id] = struct{}{}
	for i := range entries {
		if entries[i].Bucket == records.HashesBucket {
			e.hashes[apikey.Hash(entries[i].Key)] = struct{}{}
		}
	}
}

func beginning(text string) (n uint64) {
	for i := range 8 {
		n = n<<8 | uint64(text[i])
	}
	return n
}

// change returns what changed of keys.
func (e *edit) change() store.KeyChange {
	c := store.KeyChange{Used: e.used}
	for id := range e.ids {
		c.IDs = append(c.IDs, id)
	}
	for hash := range e.hashes {
		c.Hashes = append(c.Hashes, hash)
	}
	return c
}

// get returns a record, or whether there is none.
func (s *state) get(b bucket, key []byte) ([]byte, error) {
	value, found := s.trees[b].Get(textOf(key))
	switch {
	case found && b < primaries && value == "":
		return nil, damagedRecord(b)
	case found:
		return bytesOf(value), nil
	case b >= primaries && s.unread[primaryOf(b)] > 0:
		// It may be what one of these would lead to.
		return nil, damagedRecord(primaryOf(b))
	}
	return nil, nil
}

func damagedRecord(b bucket) error {
	name := "audit log"
	if b < packs {
		name = primaryName(b)
	}
	return fmt.Errorf("%w: a record of %q: %w", store.ErrDamaged, name, errChecksum)
}

// scan calls fn for the records whose keys start with prefix.
func (s *state) scan(b bucket, prefix []byte, fn func(key, value []byte) error) (err error) {
	s.trees[b].Ascend(textOf(prefix), func(key, value string) bool {
		switch {
		case !bytes.HasPrefix(bytesOf(key), prefix):
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
