package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Index is a [Store] that answers [Keys.SearchKeys] from memory, where the
// inner store would look at every key. All changes to keys must be made
// through it, or be told to [Index.Follow]. It is built by the first search; of each key it keeps about 60
// bytes and the text in which searches look.
//
// A search sees every change that was acknowledged before it began. After each
// change, and before the caller hears of it, the keys that it was about are
// read from the inner store again, one reading at a time: so the last reading
// of a key sees all that was acknowledged of it. What changes while the index
// is built is noted and read again at the end. A change whose outcome is
// unknown may be made at any time later; its keys are read again by each
// search. Times of last use that could not be written may be missing until the
// next of that key is.
type Index struct {
	Store // what is decorated

	building chan struct{} // holds the right to build

	mu     sync.RWMutex
	table  *searchTable // nil until it is built
	during map[apikey.KeyID]struct{}
	doubts indexDoubts
	closed bool
}

var _ Store = (*Index)(nil)

// maxIndexDoubts bounds the changes of unknown outcome that are remembered.
// Beyond it the inner store answers: slow, and right.
const maxIndexDoubts = 1000

// indexDoubts are what changes of unknown outcome were about.
type indexDoubts struct {
	ids    map[apikey.KeyID]struct{}
	hashes map[apikey.Hash]struct{} // of keys that may have been made
	lost   bool                     // there were too many
}

// NewIndex decorates inner, which belongs to the Index from now on.
func NewIndex(inner Store) *Index {
	return &Index{Store: inner, building: make(chan struct{}, 1)}
}

// CreateKey implements [Keys].
func (x *Index) CreateKey(ctx context.Context, key *apikey.Key, by Actor) (*apikey.Key, error) {
	hash := key.Hash
	created, err := x.Store.CreateKey(ctx, key, by)
	if err != nil {
		x.created(ctx, err, []apikey.Hash{hash}, nil)
		return nil, err
	}
	x.created(ctx, nil, nil, []*apikey.Key{created})
	return created, nil
}

// CreateKeys implements [Keys].
func (x *Index) CreateKeys(ctx context.Context, keys []*apikey.Key, by Actor) ([]*apikey.Key, error) {
	hashes := make([]apikey.Hash, 0, len(keys))
	for _, key := range keys {
		hashes = append(hashes, key.Hash)
	}
	created, err := x.Store.CreateKeys(ctx, keys, by)
	x.created(ctx, err, hashes, created)
	return created, err
}

func (x *Index) created(ctx context.Context, err error, hashes []apikey.Hash, created []*apikey.Key) {
	ids := make([]apikey.KeyID, 0, len(created))
	for _, key := range created {
		ids = append(ids, key.ID)
	}
	x.changed(ctx, err, ids, hashes)
}

// UpdateKey implements [Keys].
func (x *Index) UpdateKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, change func(*apikey.Key) error, by Actor) (*apikey.Key, error) {
	key, err := x.Store.UpdateKey(ctx, owner, id, refusing(change), by)
	x.changed(ctx, err, []apikey.KeyID{id}, nil)
	return key, err
}

// DeleteKey implements [Keys].
func (x *Index) DeleteKey(ctx context.Context, owner apikey.UserID, id apikey.KeyID, by Actor) (*apikey.Key, error) {
	key, err := x.Store.DeleteKey(ctx, owner, id, by)
	x.changed(ctx, err, []apikey.KeyID{id}, nil)
	return key, err
}

// DeleteKeys implements [Keys].
func (x *Index) DeleteKeys(ctx context.Context, owner apikey.UserID, ids []apikey.KeyID, by Actor) ([]*apikey.Key, error) {
	keys, err := x.Store.DeleteKeys(ctx, owner, ids, by)
	x.changed(ctx, err, ids, nil)
	return keys, err
}

// TouchKeys implements [Keys].
func (x *Index) TouchKeys(ctx context.Context, used map[apikey.KeyID]time.Time) error {
	err := x.Store.TouchKeys(ctx, used)
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err != nil:
		// Whoever writes them behind tries again.
	case x.table != nil:
		for id, at := range used {
			x.table.touch(id, at)
		}
	case x.during != nil:
		for id := range used {
			x.during[id] = struct{}{}
		}
	}
	return err
}

// changed brings what changes were about up to date, or notes it.
func (x *Index) changed(ctx context.Context, err error, ids []apikey.KeyID, hashes []apikey.Hash) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if uncertain(err) {
		x.doubts.add(ids, hashes)
		return
	}
	if err != nil {
		return // nothing was changed
	}
	for _, id := range ids {
		if x.during != nil {
			x.during[id] = struct{}{}
		}
		x.refresh(context.WithoutCancel(ctx), id)
	}
}

func (d *indexDoubts) add(ids []apikey.KeyID, hashes []apikey.Hash) {
	if d.ids == nil {
		d.ids, d.hashes = map[apikey.KeyID]struct{}{}, map[apikey.Hash]struct{}{}
	}
	for _, id := range ids {
		d.ids[id] = struct{}{}
	}
	for _, hash := range hashes {
		d.hashes[hash] = struct{}{}
	}
	d.lost = d.lost || len(d.ids)+len(d.hashes) > maxIndexDoubts
}

// refresh reads a key again. The Index must be locked.
func (x *Index) refresh(ctx context.Context, id apikey.KeyID) {
	if x.table == nil {
		return
	}
	key, err := x.Store.Key(ctx, 0, id)
	switch {
	case err == nil:
		x.table.put(key)
	case errors.Is(err, ErrNotFound):
		x.table.remove(id)
	default:
		x.doubts.add([]apikey.KeyID{id}, nil)
	}
}

// resolve reads again what is in doubt. The Index must be locked.
func (x *Index) resolve(ctx context.Context) {
	for id := range x.doubts.ids {
		x.refresh(ctx, id)
	}
	for hash := range x.doubts.hashes {
		if key, err := x.Store.FindKey(ctx, hash); err == nil {
			x.doubts.ids[key.ID] = struct{}{}
			x.refresh(ctx, key.ID)
		}
	}
}

// SearchKeys implements [Keys]. The keys of the page are read from the inner
// store; one that was deleted meanwhile is left out.
func (x *Index) SearchKeys(ctx context.Context, filter KeyFilter) (KeyPage, error) {
	if err := filter.Validate(); err != nil {
		return KeyPage{}, fmt.Errorf("searching keys: %w", err)
	}
	if err := x.build(ctx); err != nil {
		return KeyPage{}, fmt.Errorf("searching keys: %w", err)
	}
	ids, total, lost := x.search(ctx, &filter)
	if lost {
		return x.Store.SearchKeys(ctx, filter)
	}
	page := KeyPage{Total: total}
	if size := filter.Size(); len(ids) > size {
		ids = ids[:size]
		page.Next = ids[size-1]
	}
	for _, id := range ids {
		key, err := x.Store.Key(ctx, 0, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return KeyPage{}, fmt.Errorf("searching keys: %w", err)
		}
		page.Keys = append(page.Keys, key)
	}
	return page, nil
}

func (x *Index) search(ctx context.Context, filter *KeyFilter) (ids []apikey.KeyID, total int, lost bool) {
	x.mu.RLock()
	if x.doubts.lost {
		x.mu.RUnlock()
		return nil, 0, true
	}
	if len(x.doubts.ids)+len(x.doubts.hashes) == 0 {
		defer x.mu.RUnlock()
		ids, total = x.table.search(filter)
		return ids, total, false
	}
	x.mu.RUnlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.resolve(ctx)
	ids, total = x.table.search(filter)
	return ids, total, x.doubts.lost
}

// build makes the table unless it is there.
func (x *Index) build(ctx context.Context) error {
	if built, err := x.built(ctx); built || err != nil {
		return err
	}
	select {
	case x.building <- struct{}{}:
		defer func() { <-x.building }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if built, err := x.built(ctx); built || err != nil {
		return err
	}
	x.mu.Lock()
	x.during = map[apikey.KeyID]struct{}{}
	x.mu.Unlock()
	table := &searchTable{}
	err := x.Store.EachKey(ctx, 0, func(key *apikey.Key) error {
		table.put(key)
		return nil
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	again := x.during
	x.during = nil
	if err != nil || x.closed {
		return cmp.Or(err, ErrClosed)
	}
	x.table = table
	for id := range again {
		x.refresh(context.WithoutCancel(ctx), id)
	}
	return nil
}

func (x *Index) built(ctx context.Context) (bool, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return false, ErrClosed
	}
	return x.table != nil, ctx.Err()
}

// Close implements [Store].
func (x *Index) Close() error {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	return x.Store.Close()
}
