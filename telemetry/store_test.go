package telemetry

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// answering is a store that answers searches with an error, or with a key.
type answering struct {
	store.Store
	err error
}

func (a *answering) FindKey(context.Context, apikey.Hash) (*apikey.Key, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &apikey.Key{ID: 7}, nil
}

// Searches pass as they are and are counted; that there is no key, or that the
// search was given up, is no failure.
func TestReads(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want float64
	}{
		{"found", t.Context(), nil, 0},
		{"no such key", t.Context(), fmt.Errorf("finding: %w", store.ErrNotFound), 0},
		{"failed", t.Context(), errors.New("disk"), 1},
		{"given up", gone, context.Canceled, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReads(&answering{err: c.err})
			key, err := r.FindKey(c.ctx, apikey.Hash{})
			if !errors.Is(err, c.err) || (err == nil) != (keyOf(key) == 7) {
				t.Errorf("got key %d, %v", keyOf(key), err)
			}
			got := gather(t, r)
			if n := got.counter("store_read_failures_total"); n != c.want {
				t.Errorf("%v failures, want %v", n, c.want)
			}
			if n := got[namespace+"store_read_duration_seconds"].GetHistogram().GetSampleCount(); n != 1 {
				t.Errorf("%d searches", n)
			}
		})
	}
}

func keyOf(key *apikey.Key) apikey.KeyID {
	if key == nil {
		return 0
	}
	return key.ID
}
