package limit

import (
	"context"
	"time"
)

// Save does at once what Run does now and then.
func (l *Limiter) Save(ctx context.Context) error { return l.save(ctx) }

// SweepAll reclaims all there is to reclaim.
func (l *Limiter) SweepAll(now time.Time) { l.sweepSome(l.clock.at(now), 1) }
