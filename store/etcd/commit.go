package etcd

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/tokenkithq/authz/store"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// commit makes the changes of u, and returns their revision once this replica
// has them, or zero where another change came before.
func (e *engine) commit(ctx context.Context, base *state, u *update) (int64, error) {
	attempt := e.by
	binary.BigEndian.PutUint64(attempt[8:], e.count.Add(1))
	ops, err := u.ops(e.prefix, e.trim(base))
	if err != nil {
		return 0, err
	}
	u.head.by = attempt
	headName := e.prefix + headKey
	ops = append(ops, clientv3.OpPut(headName, u.head.encode()))
	e.mu.Lock()
	e.pending[attempt] = 0
	gaps := e.gaps
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.pending, attempt)
	}()
	// As long as the head is the one of base, the same transaction may be sent
	// again: only one of them can be made.
	for {
		limited, cancel := context.WithTimeout(ctx, e.options.RequestTimeout/3)
		answer, err := e.client.Txn(limited).If(clientv3.Compare(clientv3.ModRevision(headName), "=", base.headAt)).
			Then(ops...).Else(clientv3.OpGet(headName, clientv3.WithKeysOnly())).Commit()
		cancel()
		if err == nil && answer.Succeeded {
			made := answer.Header.Revision
			return made, e.await(ctx, func(s *state) bool { return s.headAt >= made })
		}
		if err == nil {
			if found := answer.Responses[0].GetResponseRange().GetKvs(); len(found) > 0 {
				err = e.await(ctx, func(s *state) bool { return s.headAt >= found[0].ModRevision })
			} else {
				err = fmt.Errorf("%w: %q was removed", store.ErrDamaged, headKey)
			}
			if err != nil {
				return 0, err
			}
			return e.whether(attempt, gaps)
		}
		if refused(err) {
			return 0, failure(err)
		}
		e.stats.doubtful.Add(1)
		current, asked := e.isCurrent(ctx, base)
		if asked != nil {
			e.unknown.Store(true)
			return 0, fmt.Errorf("%w; the change may still be made: %w", asked, err)
		}
		if !current {
			return e.whether(attempt, gaps)
		}
	}
}

// whether returns the revision at which an attempt was seen, or zero where it
// was not and cannot be any more.
func (e *engine) whether(attempt token, gaps int) (int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	made := e.pending[attempt]
	if made == 0 && gaps != e.gaps {
		return 0, fmt.Errorf("%w: the change may have been made", store.ErrUnavailable)
	}
	return made, nil
}

// trimStep is how many packs of old events go with one change at most.
const trimStep = 1000

// trim returns what removes events that are too many: once they are a
// sixty-fourth more than may be kept, those beyond.
func (e *engine) trim(s *state) *clientv3.Op {
	kept := s.trees[events].Len()
	if kept <= e.options.AuditEvents+max(e.options.AuditEvents/64, 1) {
		return nil
	}
	excess, steps, until := kept-e.options.AuditEvents, 0, ""
	s.trees[packs].Scan(func(key, _ string) bool {
		if n := e.packed(s, key); n <= excess && steps < trimStep {
			excess -= n
			steps++
			return true
		}
		until = key
		return false
	})
	if steps == 0 || until == "" {
		return nil
	}
	op := clientv3.OpDelete(e.prefix+below(packs, ""), clientv3.WithRange(e.prefix+below(packs, until)))
	return &op
}

// packed returns how many events a pack holds.
func (e *engine) packed(s *state, key string) int {
	value, _ := s.trees[packs].Get(key)
	entries, _ := derive(nil, packs, key, value)
	return len(entries)
}
