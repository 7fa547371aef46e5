package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/records"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// formatText is the value of formatKey.
const formatText = "tokenkit-authz keys, version 2"

// loadingText begins the value of formatKey while a [Load] is under way.
const loadingText = "tokenkit-authz keys, being loaded"

// claim makes sure that what is below the prefix is a store, and makes one
// where there is nothing.
func (e *engine) claim(ctx context.Context) error {
	text, _, err := mark(ctx, e.client, e.prefix, formatText)
	switch {
	case err != nil:
		return err
	case text == formatText:
		return nil
	case strings.HasPrefix(text, loadingText):
		return fmt.Errorf("%w: prefix %q: a move into it was begun and not finished; begin it again", store.ErrUnavailable, e.prefix)
	case strings.HasPrefix(text, "tokenkit-authz keys, version "):
		return fmt.Errorf("prefix %q: expected %q, found %q: %w", e.prefix, formatText, text, records.ErrNewer)
	case text == "":
		return fmt.Errorf("prefix %q: it holds something that is no store: expected nothing, or %q", e.prefix, formatKey)
	}
	return fmt.Errorf("prefix %q: expected %q in %q, found something else", e.prefix, formatText, formatKey)
}

// mark puts a format where there is nothing below the prefix, and returns what
// it is then and its revision; none where there is something else.
func mark(ctx context.Context, client *clientv3.Client, prefix, format string) (text string, revision int64, err error) {
	name := prefix + formatKey
	found, err := client.Get(ctx, name)
	if err != nil {
		return "", 0, failure(err)
	}
	if len(found.Kvs) > 0 {
		return string(found.Kvs[0].Value), found.Kvs[0].ModRevision, nil
	}
	others, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil || len(others.Kvs) > 0 {
		return "", 0, failure(err)
	}
	made, err := client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(name), "=", 0)).
		Then(clientv3.OpPut(name, format)).Else(clientv3.OpGet(name)).Commit()
	if err != nil {
		return "", 0, failure(err)
	}
	if made.Succeeded {
		return format, made.Header.Revision, nil
	}
	kvs := made.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		return "", 0, fmt.Errorf("%w: %q was removed", store.ErrUnavailable, name)
	}
	return string(kvs[0].Value), kvs[0].ModRevision, nil
}

// page is how many records one answer of etcd holds at most. For each answer etcd
// counts all that is left: a million keys in pages of 2,000 took it a minute,
// and ten seconds in these.
const page = 20_000

// list brings the state to that of one revision, whatever was missed. It
// changes only what differs.
func (e *engine) list(ctx context.Context) error {
	for {
		err := e.listOnce(ctx)
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return err
		}
	}
}

func (e *engine) listOnce(ctx context.Context) error {
	edit := e.present().edit(&e.copying)
	edit.replicas = map[string]int64{}
	edit.broken = nil
	end := clientv3.GetPrefixRangeEnd(e.prefix)
	at := int64(0)
	for from := e.prefix; from != ""; {
		got, err := e.page(ctx, from, end, at)
		if err != nil {
			return err
		}
		if at == 0 {
			at = got.Header.Revision
		}
		until := end
		if got.More {
			until = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
		}
		if err := edit.merge(e.prefix, got.Kvs, from, until); err != nil {
			return err
		}
		if from = until; !got.More {
			from = ""
		}
	}
	edit.compact()
	edit.revision = at
	e.mu.Lock()
	e.gaps++
	e.mu.Unlock()
	e.publish(edit)
	return nil
}

// pageTries is how often a page is asked for that etcd does not send.
const pageTries = 10

// page reads a part of what is there, as it was at a revision; zero is that of
// now.
func (e *engine) page(ctx context.Context, from, end string, at int64) (*clientv3.GetResponse, error) {
	options := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(at)}
	if at > 0 {
		options = append(options, clientv3.WithSerializable()) // it does not change any more
	}
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(ctx, e.options.RequestTimeout)
		got, err := e.client.Get(limited, from, options...)
		cancel()
		switch {
		case err == nil:
			return got, nil
		case errors.Is(err, rpctypes.ErrCompacted):
			return nil, err
		case ctx.Err() != nil || refused(err) || try == pageTries:
			return nil, failure(err)
		}
		if err := pause(ctx, time.Duration(try)*50*time.Millisecond); err != nil {
			return nil, failure(err)
		}
	}
}

// compact writes the trees that were changed anew: nodes that were split hold on
// to the room of both halves.
func (e *edit) compact() {
	for b := range buckets {
		if e.own[b] {
			anew := e.trees[b].Copy()
			anew.ScanMut(func(string, string) bool { return true })
			e.trees[b] = anew
		}
	}
}

// merge takes in all that is from one name up to another.
func (e *edit) merge(prefix string, found []*mvccpb.KeyValue, from, until string) error {
	next := 0
	for b := range primaries {
		var gone []string
		listed := func(key string) bool { // in ascending order
			name := prefix + below(b, key)
			for next < len(found) && textOf(found[next].Key) < name {
				next++
			}
			return next < len(found) && textOf(found[next].Key) == name
		}
		next = 0
		start := prefix + below(b, "")
		if until <= start || from >= clientv3.GetPrefixRangeEnd(start) {
			continue
		}
		pivot := ""
		if from > start {
			pivot = from[len(start):]
		}
		e.trees[b].Ascend(pivot, func(key, _ string) bool {
			if prefix+below(b, key) >= until {
				return false
			}
			if !listed(key) {
				gone = append(gone, key)
			}
			return true
		})
		for _, key := range gone {
			e.remove(b, key)
		}
	}
	for _, kv := range found {
		name := textOf(kv.Key[len(prefix):])
		b, key, isRecord := recordAt(name)
		if !isRecord && name != headKey && name != formatKey && !strings.HasPrefix(name, replicaKey) {
			return fmt.Errorf("prefix %q: it holds %q, which is no part of a store", prefix, name)
		}
		if isRecord {
			record, err := unseal(name, kv.Value)
			if kept, has := e.trees[b].Get(key); has && err == nil && kept == textOf(record) {
				continue
			}
		}
		e.put(name, kv.Value, kv.ModRevision)
	}
	return nil
}

// publish lets everybody read an edited state, tells the followers, and then
// settles it.
func (e *engine) publish(edited *edit) {
	e.published.Store(edited.state)
	e.mu.Lock()
	followers := e.followers
	e.mu.Unlock()
	if len(edited.ids)+len(edited.used) > 0 && len(followers) > 0 {
		change := edited.change()
		for _, follower := range followers {
			follower(change)
		}
	}
	foreign := false
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range edited.heads {
		if _, ours := e.pending[h.by]; ours {
			e.pending[h.by] = edited.headAt
		}
		foreign = foreign || [8]byte(h.by[:8]) != [8]byte(e.by[:8])
	}
	e.settled = edited.state
	close(e.changed)
	e.changed = make(chan struct{})
	if foreign {
		e.askReport()
	}
	if _, registered := e.settled.replicas[e.name]; !registered {
		e.askRenewal()
	}
}

// follow takes in what etcd tells, until the engine stops.
func (e *engine) follow() {
	for e.stopped.Err() == nil {
		began := time.Now()
		err := e.watch()
		if e.stopped.Err() != nil {
			return
		}
		e.stats.restarts.Add(1)
		e.options.Logger.Warn("following etcd was interrupted; it is tried again", "error", err)
		if errors.Is(err, rpctypes.ErrCompacted) {
			e.stats.relists.Add(1)
			err = e.list(e.stopped)
		}
		if err != nil && time.Since(began) < time.Second {
			_ = pause(e.stopped, 100*time.Millisecond)
		}
	}
}

// watch takes in what etcd tells until it is interrupted.
func (e *engine) watch() error {
	ctx, cancel := context.WithCancel(e.stopped)
	defer cancel()
	e.setRewatch(cancel)
	from := e.present().revision + 1
	told := e.client.Watch(clientv3.WithRequireLeader(ctx), e.prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	for answer := range told {
		if answer.CompactRevision > 0 {
			return rpctypes.ErrCompacted
		}
		if err := answer.Err(); err != nil {
			return failure(err)
		}
		e.take(&answer)
	}
	return fmt.Errorf("%w: the connection ended", store.ErrUnavailable)
}

// take takes in one answer, which holds all of each revision that it is about.
func (e *engine) take(answer *clientv3.WatchResponse) {
	edit := e.present().edit(&e.copying)
	if answer.IsProgressNotify() {
		// Nothing up to there is missing.
		edit.revision = max(edit.revision, answer.Header.Revision)
	}
	for _, event := range answer.Events {
		if event.Kv.ModRevision <= e.present().revision {
			continue
		}
		name := textOf(event.Kv.Key[len(e.prefix):])
		if event.Type == clientv3.EventTypeDelete {
			edit.delete(name)
		} else {
			edit.put(name, event.Kv.Value, event.Kv.ModRevision)
		}
		edit.revision = event.Kv.ModRevision
	}
	e.publish(edit)
}
