package store

import (
	"context"
	"errors"
	"time"
)

// writeBehind calls flush at each interval until ctx is done. It returns nil
// when ctx is done and an error only when there is no use in going on, the
// store being closed; other errors are reported.
func writeBehind(ctx context.Context, every time.Duration, flush func(context.Context) error, report func(error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := flush(ctx)
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrClosed) {
			return err
		}
		if err != nil {
			report(err)
		}
	}
}
