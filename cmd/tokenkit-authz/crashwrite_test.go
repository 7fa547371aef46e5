package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
)

const crashUser = "crash@example.com"

// madeKey is a key as it was asked for. Its secret is empty where the answer
// was lost.
type madeKey struct {
	id     apikey.KeyID
	secret string
	asked  admin.NewKey
}

// crashWriter makes and deletes keys of its own.
type crashWriter struct {
	number  int
	random  *rand.Rand
	named   int
	live    []madeKey // acknowledged, those since the last kill at the end
	fresh   int       // how many of live are since the last kill
	deleted []madeKey // acknowledged since the last kill
	// creating and deleting were under way when the service was killed.
	creating *admin.NewKey
	deleting *madeKey

	acknowledged int
	err          error // a refusal, which nothing asked for
}

// write makes one change and reports whether it was acknowledged.
func (w *crashWriter) write(client *admin.OperatorClient) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	if len(w.live) > 4+w.random.IntN(8) {
		err = w.delete(ctx, client)
	} else {
		err = w.create(ctx, client)
	}
	if err != nil {
		if problem := (*admin.Problem)(nil); errors.As(err, &problem) {
			w.err = err
		}
		return false
	}
	w.acknowledged++
	return true
}

func (w *crashWriter) create(ctx context.Context, client *admin.OperatorClient) error {
	asked := w.newKey()
	w.creating = &asked
	created, err := client.CreateKey(ctx, admin.OwnedKey{Owner: crashUser, NewKey: asked})
	if err != nil {
		return err
	}
	w.creating = nil
	w.live = append(w.live, madeKey{created.ID, created.Key, asked})
	w.fresh++
	return nil
}

func (w *crashWriter) delete(ctx context.Context, client *admin.OperatorClient) error {
	i := w.random.IntN(len(w.live))
	key := w.live[i]
	w.live = slices.Delete(w.live, i, i+1)
	w.fresh = min(w.fresh, len(w.live))
	w.deleting = &key
	if _, err := client.DeleteKey(ctx, key.id); err != nil {
		return err
	}
	w.deleting = nil
	w.deleted = append(w.deleted, key)
	return nil
}

// newKey describes a key with a name that no other has.
func (w *crashWriter) newKey() admin.NewKey {
	w.named++
	key := admin.NewKey{Name: fmt.Sprintf("writer-%d-%d", w.number, w.named), Strict: w.random.IntN(3) == 0}
	for i := range w.random.IntN(4) {
		key.AllowedOrigins = append(key.AllowedOrigins, fmt.Sprintf("https://app%d.example.io", i))
	}
	for i := range w.random.IntN(4) {
		key.AllowedIPs = append(key.AllowedIPs, fmt.Sprintf("203.0.113.%d", i+w.random.IntN(200)))
	}
	slices.Sort(key.AllowedIPs)
	key.AllowedIPs = slices.Compact(key.AllowedIPs)
	if w.random.IntN(2) == 0 {
		n := 1 + w.random.Int64N(1_000_000)
		key.RateLimitPerHour = &n
	}
	return key
}

// whole reports whether a key is what was asked for, to the last field.
func whole(listed *admin.Key, asked *admin.NewKey) bool {
	limited := (listed.RateLimitPerHour == nil) == (asked.RateLimitPerHour == nil) &&
		(listed.RateLimitPerHour == nil || int64(*listed.RateLimitPerHour) == *asked.RateLimitPerHour)
	ips := slices.Clone(listed.AllowedIPs)
	slices.Sort(ips)
	return limited && listed.Name == asked.Name && listed.Strict == asked.Strict && listed.Owner == crashUser &&
		slices.Equal(listed.AllowedOrigins, asked.AllowedOrigins) && slices.Equal(ips, asked.AllowedIPs) && !listed.CreatedAt.IsZero()
}

// verify compares what is there with what was acknowledged.
func (c *crashRun) verify(s *server) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	client := admin.NewOperatorClient(filepath.Join(c.data, "control.sock"))
	defer client.Close()
	keys, err := client.ListKeys(ctx, "")
	if err != nil {
		c.t.Fatalf("listing keys: %v", err)
	}
	v := &verification{crashRun: c, listed: make(map[apikey.KeyID]*admin.Key), checks: newChecker(c.t, s.grpc)}
	defer v.checks.close()
	v.parallel.SetLimit(crashCheckers)
	for i := range keys {
		if v.listed[keys[i].ID] != nil {
			v.half("key %d is listed twice", keys[i].ID)
		}
		v.listed[keys[i].ID] = &keys[i]
	}
	for _, w := range c.writers {
		v.writer(w)
	}
	for _, key := range c.limits {
		v.acknowledged(&key.madeKey)
	}
	for id, key := range v.listed {
		v.lose("key %d (%s) is there again, or was never asked for", id, key.Name)
	}
	_ = v.parallel.Wait()
	c.verifySignIn(s)
}

// verification is one comparison.
type verification struct {
	*crashRun
	listed   map[apikey.KeyID]*admin.Key // not accounted for yet
	checks   *checker
	parallel errgroup.Group
	mu       sync.Mutex
}

func (v *verification) lose(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost++
	v.t.Errorf("lost after %d kills: "+format, append([]any{v.kills}, args...)...)
}

func (v *verification) half(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.halfApplied++
	v.t.Errorf("half applied after %d kills: "+format, append([]any{v.kills}, args...)...)
}

// acknowledged expects a key in the list.
func (v *verification) acknowledged(key *madeKey) {
	listed := v.listed[key.id]
	delete(v.listed, key.id)
	switch {
	case listed == nil:
		v.lose("key %d (%s) is gone", key.id, key.asked.Name)
	case !whole(listed, &key.asked):
		v.half("key %d is %+v, want %+v", key.id, *listed, key.asked)
	}
}

// check expects a Check with a key's secret to find it, or not to.
func (v *verification) check(key madeKey, there bool, wrong func(format string, args ...any)) {
	if key.secret == "" {
		return
	}
	v.parallel.Go(func() error {
		answer, err := v.checks.ask(key.secret, first(key.asked.AllowedOrigins), first(key.asked.AllowedIPs))
		switch {
		case err != nil:
			v.t.Errorf("checking key %d after a start: %v", key.id, err)
		case there && !answer.Allowed && answer.Reason != apikey.ReasonRateLimit.String():
			wrong("key %d (%s) is denied: %s", key.id, key.asked.Name, answer.Reason)
		case !there && answer.Status != 401:
			wrong("key %d (%s) was deleted and is answered with %d", key.id, key.asked.Name, answer.Status)
		}
		return nil
	})
}

func first(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// writer accounts for the keys of w and clears what it was about to do.
func (v *verification) writer(w *crashWriter) {
	for i := range w.live {
		v.acknowledged(&w.live[i])
		if i >= len(w.live)-w.fresh || w.random.IntN(10) == 0 {
			v.check(w.live[i], true, v.lose)
		}
	}
	for _, key := range w.deleted {
		if v.listed[key.id] != nil {
			delete(v.listed, key.id)
			v.lose("key %d (%s) was deleted and is there", key.id, key.asked.Name)
		}
		v.check(key, false, v.lose)
	}
	w.fresh, w.deleted = 0, nil
	if asked := w.creating; asked != nil {
		for id, listed := range v.listed {
			if listed.Name != asked.Name {
				continue
			}
			if !whole(listed, asked) {
				v.half("key %d is %+v, want %+v", id, *listed, *asked)
			}
			w.live = append(w.live, madeKey{id: id, asked: *asked})
			delete(v.listed, id)
			break
		}
	}
	if key := w.deleting; key != nil {
		there := v.listed[key.id] != nil
		v.check(*key, there, v.half)
		if there {
			v.acknowledged(key)
			w.live = append(w.live, *key)
		}
	}
	w.creating, w.deleting = nil, nil
}
