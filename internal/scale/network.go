package scale

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/tokenkithq/authz/extauthz/limit/lease"
)

// Network is the way from a replica to the engine, as it is modelled.
type Network struct {
	Engine lease.Engine
	// Delay is the mean time of each direction; it varies from half of it
	// upwards, with a tail.
	Delay time.Duration
	// Loss is the part of exchanges of which the answer never comes, half of
	// them after they were carried out.
	Loss float64

	cut   atomic.Bool
	trips atomic.Int64
}

var _ lease.Engine = (*Network)(nil)

// Cut separates the replica from the engine, or connects it again.
func (n *Network) Cut(cut bool) { n.cut.Store(cut) }

// Trips returns how many exchanges were begun.
func (n *Network) Trips() int64 { return n.trips.Load() }

var errLost = errors.New("no answer came")

// Exchange implements [lease.Engine].
func (n *Network) Exchange(ctx context.Context, requests []lease.Request, grants []lease.Grant) error {
	n.trips.Add(1)
	fate := rand.Float64()
	if !n.pass(ctx) || fate < n.Loss/2 {
		return lost(ctx)
	}
	if err := n.Engine.Exchange(ctx, requests, grants); err != nil {
		return err
	}
	if !n.pass(ctx) || fate < n.Loss {
		return lost(ctx)
	}
	return nil
}

// Replicas implements [lease.Engine].
func (n *Network) Replicas(ctx context.Context, replica uint64) (int, error) {
	if !n.pass(ctx) {
		return 0, lost(ctx)
	}
	return n.Engine.Replicas(ctx, replica)
}

// pass lets one direction's time pass, and reports whether what was sent
// arrives.
func (n *Network) pass(ctx context.Context) bool {
	timer := time.NewTimer(n.Delay/2 + time.Duration(rand.ExpFloat64()*float64(n.Delay)/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return !n.cut.Load()
	case <-ctx.Done():
		return false
	}
}

func lost(ctx context.Context) error {
	<-ctx.Done()
	return errors.Join(errLost, ctx.Err())
}
