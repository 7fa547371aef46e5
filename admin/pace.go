package admin

import (
	"context"
	"io"
	"time"
)

// DefaultBackupRate is how many bytes of a backup are sent a second unless
// [Options] say otherwise: little enough to be hardly felt by Checks.
const DefaultBackupRate = 64 << 20

// pacedWriter takes at most so many bytes a second, in small pieces, so that
// who writes much leaves room for others.
type pacedWriter struct {
	ctx       context.Context
	to        io.Writer
	perSecond int64
	began     time.Time
	n         int64
}

func newPacedWriter(ctx context.Context, to io.Writer, perSecond int64) *pacedWriter {
	return &pacedWriter{ctx: ctx, to: to, perSecond: perSecond, began: time.Now()}
}

// Write writes p and returns when as much may have been written. It returns
// ctx's error once ctx is done.
func (w *pacedWriter) Write(p []byte) (written int, err error) {
	piece := int(max(w.perSecond/256, 1<<10)) // 4 ms
	for len(p) > 0 {
		n, err := w.to.Write(p[:min(piece, len(p))])
		written += n
		w.n += int64(n)
		if err != nil {
			return written, err
		}
		p = p[n:]
		due := w.began.Add(time.Duration(float64(w.n) / float64(w.perSecond) * float64(time.Second)))
		select {
		case <-time.After(time.Until(due)):
		case <-w.ctx.Done():
			return written, w.ctx.Err()
		}
	}
	return written, nil
}
