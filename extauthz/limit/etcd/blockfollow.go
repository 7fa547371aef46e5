package etcd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tokenkithq/authz/extauthz/block/shared"
)

var (
	errEvents   = errors.New("events ended")
	errPresence = errors.New("this replica was not heard of in time")
)

// Listen implements [shared.Backend]. It reads all events that there are, then
// those that come, and writes those of this replica.
func (b *Blocks) Listen(ctx context.Context, changed func()) error {
	if err := b.listen(ctx, changed); err != nil {
		return fmt.Errorf("following blocks in etcd: %w", err)
	}
	return nil
}

func (b *Blocks) listen(ctx context.Context, changed func()) error {
	client := b.engine.client
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	presence, err := client.Grant(ctx, int64(shared.ReplicaLife/time.Second))
	if err != nil {
		return err
	}
	defer func() { // so that nobody waits for a replica that is gone
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), blockTimeout/2)
		defer cancel()
		_, _ = client.Revoke(ctx, presence.ID) // else it ends by itself
	}()
	alive, err := client.KeepAlive(ctx, presence.ID)
	if err != nil {
		return err
	}
	revision, err := b.load(ctx)
	defer b.lose()
	if err != nil {
		return err
	}
	changed()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.writer(ctx, presence.ID)
	}()
	defer func() {
		cancel()
		<-done
	}()
	watch := client.Watch(ctx, b.prefix()+"-", clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-alive:
			if !ok {
				return errPresence
			}
		case response, ok := <-watch:
			if !ok {
				return errors.Join(errEvents, ctx.Err())
			}
			if err := response.Err(); err != nil {
				return err
			}
			if err := b.hear(response.Events, changed); err != nil {
				return err
			}
		}
	}
}

// load reads all events that there are, and returns the revision of that.
func (b *Blocks) load(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*blockTimeout)
	defer cancel()
	response, err := b.engine.client.Get(ctx, b.prefix()+"-", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortAscend))
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = newBlockState()
	for _, kv := range response.Kvs {
		if err := b.put(kv); err != nil {
			return 0, err
		}
	}
	b.told = false
	b.ring()
	close(b.following)
	return response.Header.Revision, nil
}

// lose forgets the state, after load.
func (b *Blocks) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = nil
	select {
	case <-b.following:
		b.following = make(chan struct{})
	default:
	}
}

// hear notes events that came.
func (b *Blocks) hear(events []*clientv3.Event, changed func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state.last
	for _, event := range events {
		if event.Type == mvccpb.PUT {
			if err := b.put(event.Kv); err != nil {
				return err
			}
			continue
		}
		// Events that vanish are old; replicas that do are gone.
		if replica, ok := strings.CutPrefix(string(event.Kv.Key), b.prefix()+"-replicas/"); ok {
			delete(b.state.heard, replica)
		}
	}
	if b.state.last != before {
		changed()
	}
	return nil
}

// put notes one record. The mutex must be held.
func (b *Blocks) put(kv *mvccpb.KeyValue) error {
	key := string(kv.Key)
	if replica, ok := strings.CutPrefix(key, b.prefix()+"-replicas/"); ok {
		heard, err := strconv.ParseUint(string(kv.Value), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w: expected a number", key, errRecord)
		}
		b.state.heard[replica] = heard
		return nil
	}
	event, err := decodeEvent(kv.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	answers, wasBlocked := b.state.apply(&event, kv.ModRevision)
	if own := b.written[key]; own != nil {
		delete(b.written, key)
		own.settle(answers, wasBlocked, nil)
	}
	return nil
}
