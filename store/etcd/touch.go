package etcd

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// touch is a value that moves forward: a time of last use, or a session with
// one.
type touch struct {
	name   string // below the prefix
	needs  string // what must exist; empty: nothing else
	before *string
	// after returns the value to be put in the place of one, or none where that
	// says the same or more.
	after func(before *string) ([]byte, error)
}

// touchStep is how many values one request moves.
const touchStep = 100

// TouchKeys implements [store.Keys]. It does not wait for other replicas.
func (s *Store) TouchKeys(ctx context.Context, used map[apikey.KeyID]time.Time) error {
	touches := make([]*touch, 0, len(used))
	present := s.engine.present()
	for id, at := range used {
		place := string(binary.BigEndian.AppendUint64(nil, uint64(id))) //nolint:gosec // ids are positive
		if _, found := present.trees[keys].Get(place); !found {
			continue
		}
		seconds := at.Unix()
		t := &touch{name: below(lastUsed, place), needs: below(keys, place), after: func(before *string) ([]byte, error) {
			if before != nil && len(*before) == 8 && int64(beginning(*before)) >= seconds { //nolint:gosec // as it was written
				return nil, nil
			}
			return binary.BigEndian.AppendUint64(nil, uint64(seconds)), nil //nolint:gosec // times may be before 1970
		}}
		if before, found := present.trees[lastUsed].Get(place); found {
			t.before = &before
		}
		touches = append(touches, t)
	}
	if err := s.engine.touch(ctx, touches); err != nil {
		return fmt.Errorf("writing when keys were last used: %w", err)
	}
	return nil
}

// TouchSessions implements [store.Sessions]. It does not wait for other
// replicas.
func (s *Store) TouchSessions(ctx context.Context, seen map[store.SessionID]time.Time) error {
	touches := make([]*touch, 0, len(seen))
	present := s.engine.present()
	for id, at := range seen {
		before, found := present.trees[sessions].Get(string(id[:]))
		if !found {
			continue
		}
		touches = append(touches, &touch{name: below(sessions, string(id[:])), before: &before, after: func(before *string) ([]byte, error) {
			if before == nil {
				return nil, nil // it has ended
			}
			return records.SeenAt(bytesOf(*before), at)
		}})
	}
	if err := s.engine.touch(ctx, touches); err != nil {
		return fmt.Errorf("writing when sessions were last seen: %w", err)
	}
	return nil
}

// touch moves values forward, each for itself: what is removed meanwhile stays
// removed, and what another replica moved further stays there. It is no change
// in the order of all changes.
func (e *engine) touch(ctx context.Context, touches []*touch) error {
	if err := e.enter(); err != nil {
		return err
	}
	defer e.inside.Done()
	ctx, cancel := context.WithTimeoutCause(ctx, e.options.RequestTimeout, fmt.Errorf("no confirmation within %v", e.options.RequestTimeout))
	defer cancel()
	if ctx.Err() != nil {
		return unavailable(ctx, "the change was not begun")
	}
	for len(touches) > 0 {
		n := min(len(touches), touchStep)
		if err := e.touchSome(ctx, touches[:n]); err != nil {
			return err
		}
		touches = touches[n:]
	}
	return nil
}

// touchTries is how often a value is tried that another replica moves at the
// same time.
const touchTries = 5

func (e *engine) touchSome(ctx context.Context, touches []*touch) error {
	last := int64(0)
	for range touchTries {
		var ops []clientv3.Op
		var tried []*touch
		for _, t := range touches {
			value, err := t.after(t.before)
			if err != nil {
				return err
			}
			if value == nil {
				continue
			}
			tried = append(tried, t)
			ops = append(ops, e.touchOp(t, value))
		}
		if len(ops) == 0 {
			break
		}
		answer, err := e.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			if ctx.Err() != nil {
				return unavailable(ctx, "waiting for etcd")
			}
			return failure(err)
		}
		touches = touches[:0]
		for i, response := range answer.Responses {
			inner := response.GetResponseTxn()
			if inner.GetSucceeded() {
				last = answer.Header.Revision
				continue
			}
			if t := tried[i]; t.found(inner.GetResponses()[0].GetResponseRange().GetKvs()) {
				touches = append(touches, t)
			}
		}
	}
	if last == 0 {
		return nil
	}
	return e.await(ctx, func(s *state) bool { return s.revision >= last })
}

// touchOp puts a value if nothing has changed, and returns what there is
// otherwise.
func (e *engine) touchOp(t *touch, value []byte) clientv3.Op {
	name := e.prefix + t.name
	var conditions []clientv3.Cmp
	if t.needs != "" {
		conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(e.prefix+t.needs), ">", 0))
	}
	if t.before == nil {
		conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(name), "=", 0))
	} else {
		conditions = append(conditions, clientv3.Compare(clientv3.Value(name), "=", seal(t.name, bytesOf(*t.before))))
	}
	return clientv3.OpTxn(conditions, []clientv3.Op{clientv3.OpPut(name, seal(t.name, value))}, []clientv3.Op{clientv3.OpGet(name)})
}

// found takes in what there is instead of what was expected, and reports
// whether it is worth another try.
func (t *touch) found(kvs []*mvccpb.KeyValue) bool {
	if len(kvs) == 0 {
		gone := t.before == nil // so it is what is needed that is gone
		t.before = nil
		return !gone
	}
	value, err := unseal(t.name, kvs[0].Value)
	if err != nil {
		return false
	}
	now := string(value)
	same := t.before != nil && *t.before == now
	t.before = &now
	return !same
}
