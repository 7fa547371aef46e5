package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/boltfile"
	"github.com/tokenkithq/authz/internal/boltfile/boltfiletest"
	"github.com/tokenkithq/authz/store"
	"github.com/tokenkithq/authz/store/bolt"
)

// A damaged store is refused, or holds all that it held, without a
// contradiction.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	var versions [][]byte
	s := openAt(t, path)
	fill(t, s)
	for round := range 4 {
		for n := range 12 {
			key, err := s.CreateKey(t.Context(), &apikey.Key{Hash: hashOf(1000*(round+1) + n), Name: fmt.Sprint(n), Owner: 1, CreatedAt: noon}, by)
			must(t, err)
			if n%3 == 0 {
				_, err := s.DeleteKey(t.Context(), 0, key.ID, by)
				must(t, err)
			}
		}
		must(t, s.Close())
		image, err := os.ReadFile(path)
		must(t, err)
		versions = append(versions, image)
		s = openAt(t, path)
	}
	want := contentsAt(t, s)
	must(t, s.Close())
	boltfiletest.Damage(t, boltfiletest.DamageOptions{
		Versions: versions,
		Rounds:   300,
		Refusals: []error{store.ErrDamaged, boltfile.ErrForeign},
		Check: func(path string) error {
			if _, err := bolt.Verify(context.Background(), path, bolt.Options{}); err != nil {
				return err
			}
			return holds(path, want)
		},
	})
}

func holds(path string, want contents) (err error) {
	s, err := bolt.Open(context.Background(), path, bolt.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	got, err := contentsOf(s)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) {
		return errors.New("it holds something else")
	}
	for _, key := range want.keys {
		if found, err := s.FindKey(context.Background(), key.Hash); err != nil || !reflect.DeepEqual(found, key) {
			return fmt.Errorf("key %d is not found as it was: %w", key.ID, err)
		}
	}
	return nil
}

// The workload of a power loss: each worker has a user and makes one change
// after the other to what belongs to it. So what the store must hold of a
// worker follows from the number of its last change.
const (
	lossWorkers = 3
	lossChanges = 60
)

// change makes change n of worker w.
func change(ctx context.Context, s store.Store, w, n int) error {
	name := fmt.Sprintf("worker%d", w)
	by := store.Actor{Kind: store.ActorUser, Name: name, At: noon}
	if n == 0 {
		_, err := s.CreateUser(ctx, &store.User{Name: name, Email: name + "@example.io", PasswordHash: "0", CreatedAt: noon}, by)
		return err
	}
	user, err := s.FindUser(ctx, name)
	if err != nil {
		return err
	}
	switch n % 4 {
	case 1:
		_, err = s.CreateKey(ctx, &apikey.Key{Hash: hashOf(w*1000 + n), Name: fmt.Sprint(n), Owner: user.ID, CreatedAt: noon}, by)
		return err
	case 2:
		return s.CreateSession(ctx, &store.Session{ID: store.SessionID(hashOf(w*1000 + n)), User: user.ID, ExpiresAt: noon}, by)
	case 3:
		if n < 8 {
			return s.TouchKeys(ctx, nil) // changes nothing
		}
		key, err := s.FindKey(ctx, hashOf(w*1000+n-6))
		if err == nil {
			_, err = s.DeleteKey(ctx, user.ID, key.ID, by)
		}
		return err
	}
	return s.SetPasswordHash(ctx, user.ID, "", fmt.Sprint(n), nil, by)
}

// expected is what a worker has after change n, -1 being none.
func expected(n int) string {
	if n < 0 {
		return ""
	}
	var keys []string
	session := 0
	for i := 1; i <= n; i++ {
		switch i % 4 {
		case 1:
			keys = append(keys, fmt.Sprint(i))
		case 2:
			session = i
		case 3:
			if i >= 8 {
				keys = slices.DeleteFunc(keys, func(key string) bool { return key == fmt.Sprint(i-6) })
			}
		case 0:
			session = 0
		}
	}
	events := n + 1
	if n >= 3 {
		events-- // change 3 is none
	}
	if n >= 7 {
		events-- // nor is change 7
	}
	return describe(n/4*4, session, keys) + fmt.Sprintf(", events %d", events)
}

func describe(password, session int, keys []string) string {
	return fmt.Sprintf("password %d, session %d, keys %s", password, session, strings.Join(keys, " "))
}

// found is what a worker has.
func found(ctx context.Context, s store.Store, w int) (string, error) {
	user, err := s.FindUser(ctx, fmt.Sprintf("worker%d", w))
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	keys, err := s.ListKeys(ctx, user.ID)
	if err != nil {
		return "", err
	}
	var names []string
	for _, key := range keys {
		names = append(names, key.Name)
	}
	session := 0
	for n := 2; n < lossChanges; n += 4 {
		_, err := s.FindSession(ctx, store.SessionID(hashOf(w*1000+n)))
		if err == nil {
			session = n
		} else if !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
	}
	var password int
	if _, err := fmt.Sscan(user.PasswordHash, &password); err != nil {
		return "", err
	}
	events, err := s.ListEvents(ctx, store.EventFilter{ActorName: user.Name, Limit: store.MaxEvents})
	if err != nil {
		return "", err
	}
	return describe(password, session, names) + fmt.Sprintf(", events %d", len(events)), nil
}

// Whenever the power is lost, all that was acknowledged is there, nothing is
// there in part, and nothing contradicts itself.
func TestPowerLoss(t *testing.T) {
	boltfiletest.PowerLoss(t, boltfiletest.PowerLossOptions{
		Images: 150,
		Workload: func(t *testing.T, dir string, ack func(int)) {
			s := openAt(t, filepath.Join(dir, "keys.db"))
			var all sync.WaitGroup
			for w := range lossWorkers {
				all.Go(func() {
					for n := range lossChanges {
						if err := change(context.Background(), s, w, n); err != nil {
							t.Errorf("change %d: %v", n, err)
							return
						}
						ack(w*1000 + n)
					}
				})
			}
			all.Wait()
			must(t, s.Close())
		},
		Check: func(dir string, acked map[int]bool) error {
			return survived(filepath.Join(dir, "keys.db"), acked)
		},
	})
}

func survived(path string, acked map[int]bool) (err error) {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, bolt.Options{})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.Close())
		if err == nil {
			if _, err = bolt.Verify(ctx, path, bolt.Options{}); err != nil {
				err = fmt.Errorf("%w: %w", boltfiletest.ErrHalfApplied, err)
			}
		}
	}()
	for w := range lossWorkers {
		last := -1
		for number := range acked {
			if number/1000 == w {
				last = max(last, number%1000)
			}
		}
		got, err := found(ctx, s, w)
		if err != nil {
			return err
		}
		// The next change may have been made without being acknowledged.
		if got == expected(last) || got == expected(last+1) {
			continue
		}
		for n := -1; n < last; n++ {
			if got == expected(n) {
				return fmt.Errorf("%w: worker %d is at change %d of %d", boltfiletest.ErrLost, w, n, last)
			}
		}
		return fmt.Errorf("%w: worker %d has %s, after change %d expected %s", boltfiletest.ErrHalfApplied, w, got, last, expected(last))
	}
	return nil
}

// While the disk is full or stalled, changes are refused and searches go on,
// and once it is well again, so is the store.
func TestFaults(t *testing.T) {
	boltfiletest.OnDisk(t, func(t *testing.T, disk *boltfiletest.Disk) {
		ctx := context.Background()
		path := filepath.Join(disk.Dir, "keys.db")
		// A machine that is slow for a while is no fault yet.
		filled := openAt(t, path)
		fill(t, filled)
		must(t, filled.Close())
		keys, err := bolt.Open(ctx, path, bolt.Options{CommitTimeout: 50 * time.Millisecond})
		must(t, err)
		cache := store.NewCache(store.NewIndex(keys), store.CacheOptions{})
		want := contentsAt(t, cache)
		cached, cold := want.keys[0], want.keys[1]
		search := func() {
			t.Helper()
			for _, key := range []*apikey.Key{cached, cold} {
				for _, s := range []store.Store{cache, keys} {
					if _, err := s.FindKey(ctx, key.Hash); err != nil {
						t.Errorf("key %d: %v", key.ID, err)
					}
				}
			}
		}
		create := func(n int) error {
			_, err := cache.CreateKey(ctx, &apikey.Key{Hash: hashOf(n), Name: "new", Owner: 1}, by)
			return err
		}

		must(t, disk.Fail("write", 0, -1, syscall.ENOSPC))
		for n := range 3 {
			if err := create(7000 + n); !errors.Is(err, store.ErrFull) {
				t.Errorf("on a full disk: %v", err)
			}
			search()
		}
		must(t, disk.Heal())
		must(t, create(7000))

		must(t, disk.Fail("write", 0, -1, syscall.EROFS))
		if err := create(7010); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("on a read-only file system: %v", err)
		}
		search()
		must(t, disk.Heal())
		must(t, create(7010))

		must(t, disk.Stall("sync", 0))
		if err := create(7020); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("on a stalled disk: %v", err)
		}
		search()
		doomed := want.keys[2]
		if _, err := cache.FindKey(ctx, doomed.Hash); err != nil {
			t.Error(err)
		}
		if _, err := cache.DeleteKey(ctx, 0, doomed.ID, by); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a deletion on a stalled disk: %v", err)
		}
		must(t, disk.Heal())
		for create(7030) != nil { // until the writer is through
		}
		search()
		_, inner := keys.FindKey(ctx, doomed.Hash)
		_, outer := cache.FindKey(ctx, doomed.Hash)
		if errors.Is(inner, store.ErrNotFound) != errors.Is(outer, store.ErrNotFound) {
			t.Errorf("the store says %v, the cache %v", inner, outer)
		}
		must(t, cache.Close())
		if _, err := bolt.Verify(ctx, path, bolt.Options{}); err != nil {
			t.Error(err)
		}
	})
}
