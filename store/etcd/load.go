package etcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	loadOps   = 100       // records that one request takes
	loadBytes = 512 << 10 // and how many bytes, but for one record
	loadTries = 30        // of a request that etcd does not answer
)

// Load puts all that another store holds below the prefix, where there must be
// nothing: with all ids, hashes and sessions as they are. Until it is done
// nobody can open what is there; what an interrupted Load left is removed first.
func Load(ctx context.Context, o Options, from records.Source, by store.Actor) (records.Contents, error) {
	contents, err := load(ctx, o, from, by)
	if err != nil {
		return contents, fmt.Errorf("loading store into etcd: %w", err)
	}
	return contents, nil
}

func load(ctx context.Context, o Options, from records.Source, by store.Actor) (contents records.Contents, err error) {
	if o, err = o.withDefaults(); err != nil {
		return contents, err
	}
	client, err := o.connect()
	if err != nil {
		return contents, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	l := &loading{ctx: ctx, client: client, prefix: o.Prefix, timeout: o.RequestTimeout}
	if err := l.begin(); err != nil {
		return contents, err
	}
	if contents, err = from.Dump(ctx, by, l.record); err != nil {
		return contents, err
	}
	return contents, l.finish(contents.Sequences)
}

// loading puts records into etcd, as long as nobody else begins to.
type loading struct {
	ctx     context.Context
	client  *clientv3.Client
	prefix  string
	timeout time.Duration
	text    string // what the format says meanwhile
	ops     []clientv3.Op
	size    int
	first   []byte   // the id of the first of events that wait
	events  [][]byte // that wait to be packed
	packed  int      // their size
}

// begin marks the prefix as being loaded, and removes what an earlier Load left.
func (l *loading) begin() error {
	name, _ := newName()
	l.text = loadingText + ", by " + name
	format := l.prefix + formatKey
	first, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	text, revision, err := mark(first, l.client, l.prefix, l.text)
	if err != nil || text == l.text {
		return err
	}
	if !strings.HasPrefix(text, loadingText) {
		return fmt.Errorf("prefix %q: %w: expected nothing there", l.prefix, store.ErrExists)
	}
	answer, err := l.client.Txn(first).If(clientv3.Compare(clientv3.ModRevision(format), "=", revision)).
		Then(clientv3.OpPut(format, l.text)).Commit()
	if err != nil {
		return failure(err)
	}
	if !answer.Succeeded {
		return l.lost()
	}
	var ops []clientv3.Op
	for b := range primaries {
		ops = append(ops, clientv3.OpDelete(l.prefix+below(b, ""), clientv3.WithPrefix()))
	}
	return l.send(append(ops, clientv3.OpDelete(l.prefix+headKey)))
}

func (l *loading) lost() error {
	return fmt.Errorf("%w: prefix %q: somebody else began to load it", store.ErrConflict, l.prefix)
}

// send makes operations that may be made again, on condition that the load is
// still this one: so a request that comes late does no harm.
func (l *loading) send(ops []clientv3.Op) error {
	condition := clientv3.Compare(clientv3.Value(l.prefix+formatKey), "=", l.text)
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(l.ctx, l.timeout)
		answer, err := l.client.Txn(limited).If(condition).Then(ops...).Commit()
		cancel()
		switch {
		case err == nil && !answer.Succeeded:
			return l.lost()
		case err == nil:
			return nil
		case l.ctx.Err() != nil || refused(err) || try == loadTries:
			return failure(err)
		}
		if err := pause(l.ctx, time.Second); err != nil {
			return failure(err)
		}
	}
}

func (l *loading) put(name string, value []byte) error {
	sealed := seal(name, value)
	size := len(l.prefix) + len(name) + len(sealed)
	if len(l.ops) == loadOps || len(l.ops) > 0 && l.size+size > loadBytes {
		if err := l.flush(); err != nil {
			return err
		}
	}
	l.ops, l.size = append(l.ops, clientv3.OpPut(l.prefix+name, sealed)), l.size+size
	return nil
}

func (l *loading) flush() error {
	if len(l.ops) == 0 {
		return nil
	}
	err := l.send(l.ops)
	l.ops, l.size = l.ops[:0], 0
	return err
}

func (l *loading) record(e records.Entry) error {
	if e.Bucket == records.EventsBucket {
		return l.event(e)
	}
	b, err := bucketOf(e.Bucket)
	if err != nil {
		return err
	}
	return l.put(below(b, string(e.Key)), e.Value)
}

// event packs events whose ids follow each other.
func (l *loading) event(e records.Entry) error {
	if len(l.events) > 0 {
		next := binary.BigEndian.Uint64(l.first) + uint64(len(l.events))
		if binary.BigEndian.Uint64(e.Key) != next || len(l.events) == store.MaxBatch || l.packed+len(e.Value) > loadBytes/2 {
			if err := l.putEvents(); err != nil {
				return err
			}
		}
	}
	if len(l.events) == 0 {
		l.first = e.Key
	}
	l.events, l.packed = append(l.events, e.Value), l.packed+len(e.Value)
	return nil
}

func (l *loading) putEvents() error {
	if len(l.events) == 0 {
		return nil
	}
	err := l.put(below(packs, string(l.first)), pack(l.events))
	l.events, l.packed = l.events[:0], 0
	return err
}

// finish makes the prefix a store.
func (l *loading) finish(sequences map[string]uint64) error {
	if err := errors.Join(l.putEvents(), l.flush()); err != nil {
		return err
	}
	var h head
	for name, last := range sequences {
		b, err := bucketOf(name)
		if err != nil {
			return err
		}
		at, err := sequenceOf(b)
		if err != nil {
			return err
		}
		h.sequences[at] = last
	}
	if err := l.send([]clientv3.Op{clientv3.OpPut(l.prefix+headKey, h.encode())}); err != nil {
		return err
	}
	return l.done()
}

// done makes what was loaded a store, which cannot be tried again blindly: the
// condition fails once it is done.
func (l *loading) done() error {
	err := l.send([]clientv3.Op{clientv3.OpPut(l.prefix+formatKey, formatText)})
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	limited, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	found, asked := l.client.Get(limited, l.prefix+formatKey)
	if asked == nil && len(found.Kvs) == 1 && string(found.Kvs[0].Value) == formatText {
		return nil
	}
	return err
}
