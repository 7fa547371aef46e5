package admin_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tokenkithq/authz/admin"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// hookedStore is a real store with something happening before some calls.
type hookedStore struct {
	admin.Store
	findUser      func() error
	createSession func()
	createKey     func(ctx context.Context) error
	sweep         func()
}

func (s hookedStore) FindUser(ctx context.Context, login string) (*store.User, error) {
	if s.findUser != nil {
		if err := s.findUser(); err != nil {
			return nil, err
		}
	}
	return s.Store.FindUser(ctx, login)
}

func (s hookedStore) CreateSession(ctx context.Context, session *store.Session, by store.Actor) error {
	if s.createSession != nil {
		s.createSession()
	}
	return s.Store.CreateSession(ctx, session, by)
}

func (s hookedStore) CreateKey(ctx context.Context, key *apikey.Key, by store.Actor) (*apikey.Key, error) {
	if s.createKey != nil {
		if err := s.createKey(ctx); err != nil {
			return nil, err
		}
	}
	return s.Store.CreateKey(ctx, key, by)
}

func (s hookedStore) DeleteExpiredSessions(ctx context.Context, now time.Time) (int, error) {
	n, err := s.Store.DeleteExpiredSessions(ctx, now)
	if s.sweep != nil {
		s.sweep()
	}
	return n, err
}

// What the store reports becomes a status, and the cause stays in the log.
func TestStoreErrors(t *testing.T) {
	for _, c := range []struct {
		err        error
		status     int
		code       string
		retryAfter bool
		logged     bool
	}{
		{store.ErrFull, 507, "storage_full", false, true},
		{store.ErrUnavailable, 503, "storage_unavailable", true, true},
		{store.ErrClosed, 503, "storage_unavailable", true, true},
		{context.DeadlineExceeded, 503, "storage_unavailable", true, true},
		{store.ErrDamaged, 500, "storage_damaged", false, true},
		{errors.New("something else"), 500, "internal_error", false, true},
	} {
		t.Run(c.code+"/"+c.err.Error(), func(t *testing.T) {
			fail := false
			h := newHarness(t, func(o *admin.Options) {
				broken := fmt.Errorf("secret cause: %w", c.err)
				hook := func() error {
					if fail {
						return broken
					}
					return nil
				}
				o.Store = hookedStore{Store: o.Store, findUser: hook, createKey: func(context.Context) error { return hook() }}
			})
			token := h.login("ada", adaPassword)
			fail = true
			calls := []request{{path: createPath, body: `{"name":"x"}`, token: token}}
			for range 12 {
				calls = append(calls, request{path: loginPath, body: loginBody("ada", adaPassword)})
			}
			for _, r := range calls {
				got := h.do(r).want(c.status, c.code)
				if strings.Contains(got.body, "secret cause") {
					t.Errorf("the answer tells the cause: %s", got.body)
				}
				if has := got.header.Get("Retry-After") != ""; has != c.retryAfter {
					t.Errorf("Retry-After: %q", got.header.Get("Retry-After"))
				}
			}
			if logged := strings.Contains(h.log.String(), "secret cause"); logged != c.logged {
				t.Errorf("logged: %v", h.log)
			}
			fail = false
			h.login("ada", adaPassword) // faults of ours cost nobody an attempt
		})
	}
}

// Work behind a request has a deadline.
func TestRequestsHaveADeadline(t *testing.T) {
	var left time.Duration
	h := newHarness(t, func(o *admin.Options) {
		o.Store = hookedStore{Store: o.Store, createKey: func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return nil
		}}
	})
	h.do(request{path: createPath, body: `{"name":"x"}`, token: h.login("ada", adaPassword)}).want(201, "")
	if left <= 0 || left > 5*time.Second {
		t.Errorf("%v left, want up to 5s", left)
	}
}
