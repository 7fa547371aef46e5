package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Admin serves the public and the operator API over one store. It is safe for
// concurrent use.
type Admin struct {
	options  Options
	service  *service
	public   http.Handler
	operator http.Handler
}

// New returns an Admin, or the first option that is wrong.
func New(options Options) (*Admin, error) {
	if options.Store == nil {
		return nil, errors.New("admin options: Store: expected a store")
	}
	options, err := options.complete()
	if err != nil {
		return nil, err
	}
	a := &Admin{options: options, service: &service{
		store:       options.Store,
		passwords:   newHasher(options.Passwords, options.HashElsewhere, options.Working),
		keyHasher:   options.KeyHasher,
		throttle:    newThrottle(),
		logger:      options.Logger,
		now:         options.Now,
		limitStatus: options.LimitStatus,
		timeout:     options.RequestTimeout,
		usage:       options.Usage,
		limits:      options.Limits,
		blocks:      options.Blocks,
		publicURL:   options.PublicURL,
		cookie:      sessionCookie{secure: strings.HasPrefix(options.PublicURL, "https:")},
	}}
	a.service.policy.Store(options.policy())
	a.public, a.operator = a.publicAPI(a.service), a.operatorAPI(a.service)
	return a, nil
}

// Handler returns the public API.
func (a *Admin) Handler() http.Handler { return a.public }

// Operator returns the operator API, which trusts every caller: serve it only
// where opening the socket needs the operator's rights.
func (a *Admin) Operator() http.Handler { return a.operator }

// sweepInterval is how often sessions that ended are removed. They are refused
// in any case; sweeping only frees their space.
const sweepInterval = 10 * time.Minute

// Run removes sessions that ended, at once and then every ten minutes, and
// writes every minute when sessions were last seen, until ctx is done; it
// returns nil then. What fails is logged and made up for by the next turn.
func (a *Admin) Run(ctx context.Context) error {
	sweeps, writes := time.NewTicker(sweepInterval), time.NewTicker(seenInterval)
	defer sweeps.Stop()
	defer writes.Stop()
	a.sweep(ctx)
	for {
		select {
		case <-ctx.Done():
			a.writeSeen(context.WithoutCancel(ctx))
			return nil
		case <-sweeps.C:
			a.sweep(ctx)
		case <-writes.C:
			a.writeSeen(ctx)
		}
	}
}

func (a *Admin) writeSeen(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := a.service.seen.write(bounded, a.options.Store); err != nil && ctx.Err() == nil {
		a.options.Logger.WarnContext(ctx, "writing when sessions were last seen", "error", err)
	}
}

func (a *Admin) sweep(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	n, err := a.options.Store.DeleteExpiredSessions(bounded, a.options.Now())
	switch {
	case err != nil && ctx.Err() == nil:
		a.options.Logger.WarnContext(ctx, "removing ended sessions", "error", err)
	case n > 0:
		a.options.Logger.DebugContext(ctx, "ended sessions removed", "sessions", n)
	}
}
