package admin

import "time"

// Policy is what [Options] say that may change while requests are answered,
// see there.
type Policy struct {
	SessionTTL       time.Duration
	SessionIdle      time.Duration
	DefaultRateLimit uint32
	AllowedHosts     []string
	Strict           bool
}

// policy is a Policy as it is looked at.
type policy struct {
	sessionTTL   time.Duration
	sessionIdle  time.Duration
	defaultLimit uint32
	strict       bool // every key is, whatever it says
	hosts        hostGuard
}

// SetPolicy changes the policy for all requests that begin afterwards; sessions
// end when they were said to, or where they are not used. Its errors are those of [New], and then nothing
// has changed.
func (a *Admin) SetPolicy(p Policy) error {
	options := a.options
	options.SessionTTL, options.SessionIdle, options.DefaultRateLimit = p.SessionTTL, p.SessionIdle, p.DefaultRateLimit
	options.AllowedHosts, options.Strict = p.AllowedHosts, p.Strict
	options, err := options.complete()
	if err != nil {
		return err
	}
	a.service.policy.Store(options.policy())
	return nil
}

func (o *Options) policy() *policy {
	return &policy{
		sessionTTL: o.SessionTTL, sessionIdle: o.SessionIdle, defaultLimit: o.DefaultRateLimit, strict: o.Strict,
		hosts: newHostGuard(o.hosts(), o.ListenAddress),
	}
}
