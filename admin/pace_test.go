package admin

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacedWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		began := time.Now()
		w := newPacedWriter(t.Context(), &out, 1<<20)
		for range 3 {
			if n, err := w.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil {
				t.Fatalf("wrote %d: %v", n, err)
			}
		}
		if took := time.Since(began); took != 3*time.Second || out.Len() != 3<<20 {
			t.Errorf("%d bytes in %v", out.Len(), took)
		}
		// Who wrote nothing for long may make up for it.
		time.Sleep(time.Minute)
		began = time.Now()
		if _, err := w.Write(make([]byte, 1<<20)); err != nil || time.Since(began) != 0 {
			t.Errorf("after a pause: %v, %v", time.Since(began), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := newPacedWriter(ctx, &out, 1<<20).Write(make([]byte, 1<<20)); !errors.Is(err, context.Canceled) {
			t.Errorf("done, and got %v", err)
		}
	})
}
