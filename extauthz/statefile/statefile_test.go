package statefile_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/extauthz/block"
	"github.com/tokenkithq/authz/extauthz/limit"
	"github.com/tokenkithq/authz/extauthz/statefile"
	"github.com/tokenkithq/authz/internal/boltfile"
	"pgregory.net/rapid"
)

func open(t testing.TB, path string) *statefile.File {
	t.Helper()
	file, err := statefile.Open(t.Context(), path, statefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func limitRecords(t testing.TB, journal limit.Journal) map[apikey.KeyID]limit.Record {
	t.Helper()
	found := map[apikey.KeyID]limit.Record{}
	err := journal.Records(t.Context(), func(r *limit.Record) error {
		kept := *r
		kept.Due = append([]limit.Due(nil), r.Due...)
		found[r.Key] = kept
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What is saved is what is there after the file was opened again, whatever it
// is.
func TestLimitsAreKept(t *testing.T) {
	due := rapid.Custom(func(t *rapid.T) []limit.Due {
		unit := rapid.SampledFrom([]int64{1, 60_000}).Draw(t, "unit")
		at := rapid.Int64Range(1, 2_000_000_000_000/unit).Draw(t, "first") * unit
		var list []limit.Due
		for range rapid.IntRange(0, 64).Draw(t, "times") {
			list = append(list, limit.Due{At: at, Tokens: rapid.Uint32Range(1, math.MaxUint32).Draw(t, "tokens")})
			at += rapid.Int64Range(1, 3_600_000/unit).Draw(t, "distance") * unit
		}
		return list
	})
	stop := rapid.Custom(func(t *rapid.T) limit.UncleanStop {
		return limit.UncleanStop{
			Number: rapid.Uint32().Draw(t, "number"), Stops: rapid.Uint32().Draw(t, "stops"),
			At: rapid.Int64Range(-1<<50, 1<<50).Draw(t, "at"), Wall: rapid.Int64Range(-1<<50, 1<<50).Draw(t, "wall"),
		}
	})
	folder := t.TempDir()
	files := 0
	rapid.Check(t, func(rt *rapid.T) {
		files++
		path := filepath.Join(folder, fmt.Sprint(files))
		model := map[apikey.KeyID]limit.Record{}
		file := open(t, path)
		journal := file.Limits()
		var state limit.State
		for range rapid.IntRange(1, 4).Draw(rt, "batches") {
			batch := limit.Batch{State: limit.State{
				Running: rapid.Bool().Draw(rt, "running"),
				Clock:   limit.Clock{Time: rapid.Int64Range(0, 1<<50).Draw(rt, "time"), Wall: -5, Latest: 7},
				Unclean: rapid.SliceOfN(stop, 0, 64).Draw(rt, "unclean"),
			}}
			for range rapid.IntRange(0, 5).Draw(rt, "deletes") {
				id := apikey.KeyID(rapid.Int64Range(1, 20).Draw(rt, "id"))
				batch.Delete = append(batch.Delete, id)
				delete(model, id)
			}
			for range rapid.IntRange(0, 5).Draw(rt, "puts") {
				record := limit.Record{
					Key:     apikey.KeyID(rapid.Int64Range(1, 20).Draw(rt, "id")),
					Settled: rapid.Uint32().Draw(rt, "settled"), Limit: rapid.Uint32().Draw(rt, "limit"), Due: due.Draw(rt, "due"),
				}
				batch.Put = append(batch.Put, record)
				model[record.Key] = record
			}
			if err := journal.Save(t.Context(), &batch); err != nil {
				rt.Fatal(err)
			}
			state = batch.State
			clear(batch.Put) // the journal must keep nothing of it
		}
		if err := file.Close(); err != nil {
			rt.Fatal(err)
		}
		file = open(t, path)
		defer file.Close()
		got, err := file.Limits().State(t.Context())
		if err != nil {
			rt.Fatal(err)
		}
		if len(state.Unclean) == 0 {
			state.Unclean = nil
		}
		if !reflect.DeepEqual(got, state) {
			rt.Fatalf("state %+v, expected %+v", got, state)
		}
		if found := limitRecords(t, file.Limits()); !reflect.DeepEqual(found, model) {
			rt.Fatalf("records %+v, expected %+v", found, model)
		}
	})
}

func TestBlocksAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	file := open(t, path)
	records := []block.Record{
		{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Opened: 1_000_000, Blocked: 1_000_000, Failures: 10, Reason: apikey.ReasonUnknownKey},
		{Prefix: netip.MustParsePrefix("0.0.0.0/32"), Opened: 1, Failures: 1, Reason: apikey.ReasonOrigin},
		{Prefix: netip.MustParsePrefix("::/64"), Opened: 1, Blocked: 300_001, Failures: math.MaxUint32, Reason: apikey.ReasonAddress},
		{Prefix: netip.MustParsePrefix("2001:db8:1:2::/64"), Opened: 1 << 50, Failures: 3, Reason: apikey.ReasonRateLimit},
		{Prefix: netip.MustParsePrefix("2001:db8:1:3::/64"), Opened: 5, Failures: 3, Reason: apikey.ReasonMalformedKey},
	}
	state := block.State{Clock: block.Clock{Time: 5, Wall: -7}}
	if err := file.Blocks().Save(t.Context(), &block.Batch{State: block.State{Clock: block.Clock{Time: 1}}, Put: records}); err != nil {
		t.Fatal(err)
	}
	// Removed and put back in one batch: it is there.
	change := block.Batch{State: state, Delete: []netip.Prefix{records[4].Prefix, records[3].Prefix}, Put: records[3:4]}
	if err := file.Blocks().Save(t.Context(), &change); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	file = open(t, path)
	var found []block.Record
	if err := file.Blocks().Records(t.Context(), func(r *block.Record) error { found = append(found, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	order := func(a, b block.Record) int { return a.Prefix.Compare(b.Prefix) }
	want := records[:4]
	slices.SortFunc(want, order)
	slices.SortFunc(found, order)
	if !slices.Equal(found, want) {
		t.Errorf("records %+v, expected %+v", found, want)
	}
	if got, err := file.Blocks().State(t.Context()); err != nil || got != state {
		t.Errorf("state %+v, %v; expected %+v", got, err, state)
	}
}

// A record whose checksum holds but which says nothing sensible is damage,
// and named.
func TestSenselessRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	file, err := boltfile.Open(t.Context(), path, statefile.Options{}.FileOptions())
	if err != nil {
		t.Fatal(err)
	}
	id := []byte{0, 0, 0, 0, 0, 0, 0, 9}
	tests := []struct {
		name, bucket string
		key, value   []byte
	}{
		{"limit: no value", "limits", id, nil},
		{"limit: version 2", "limits", id, []byte{2, 0, 0, 0, 1}},
		{"limit: short key", "limits", id[1:], []byte{1, 0, 0, 0, 1}},
		{"limit: negative key", "limits", []byte{255, 0, 0, 0, 0, 0, 0, 0}, []byte{1, 0, 0, 0, 1}},
		{"limit: unit of 0", "limits", id, []byte{1, 0, 0, 1, 0, 1, 1}},
		{"limit: no tokens", "limits", id, []byte{1, 0, 0, 1, 1, 1, 0}},
		{"limit: the same time twice", "limits", id, []byte{1, 0, 0, 2, 1, 1, 1, 0, 1}},
		{"limit: one time of two", "limits", id, []byte{1, 0, 0, 2, 1, 1, 1}},
		{"limit: trailing byte", "limits", id, []byte{1, 0, 0, 0, 1, 0}},
		{"block: short key", "blocks", id[:5], []byte{1, 1, 0, 1}},
		{"block: version 2", "blocks", id[:4], []byte{2, 1, 0, 1}},
		{"block: no failures", "blocks", id[:4], []byte{1, 1, 0}},
		{"state: empty", "meta", []byte("limits"), []byte{1}},
		{"state: running twice", "meta", []byte("limits"), []byte{1, 2, 0, 0, 0, 0}},
		{"state of blocks: version 2", "meta", []byte("blocks"), []byte{2, 0, 0}},
	}
	for _, tt := range tests {
		set := func(tx *boltfile.Tx) error { return tx.Put(tt.bucket, tt.key, tt.value) }
		if err := file.Update(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		state := open(t, path)
		if err := state.Check(t.Context()); !errors.Is(err, boltfile.ErrDamaged) {
			t.Errorf("%s: %v, expected damage", tt.name, err)
		}
		_ = state.Close()
		if file, err = boltfile.Open(t.Context(), path, statefile.Options{}.FileOptions()); err != nil {
			t.Fatal(err)
		}
		remove := func(tx *boltfile.Tx) error { return tx.Delete(tt.bucket, tt.key) }
		if err := file.Update(t.Context(), remove); err != nil {
			t.Fatal(err)
		}
	}
	_ = file.Close()
	if err := open(t, path).Check(t.Context()); err != nil {
		t.Errorf("after all were removed: %v", err)
	}
}

// The limiter and the table on a real file: a stop, clean or not, and a start.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	key := &apikey.Key{ID: 9, RateLimitPerHour: 6400}
	attacker := netip.MustParseAddr("192.0.2.1")
	file := open(t, path)
	limiter, err := limit.New(t.Context(), limit.Options{Journal: file.Limits()})
	if err != nil {
		t.Fatal(err)
	}
	table, err := block.New(t.Context(), block.Options{Journal: file.Blocks()})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if result, err := limiter.Spend(t.Context(), key, 1, time.Now()); err != nil || !result.Allowed {
			t.Fatal(result, err)
		}
	}
	for range 10 {
		table.Failed(attacker, apikey.ReasonUnknownKey, time.Now())
	}
	for _, close := range []func() error{
		func() error { return limiter.Close(t.Context()) }, func() error { return table.Close(t.Context()) }, file.Close,
	} {
		if err := close(); err != nil {
			t.Fatal(err)
		}
	}

	file = open(t, path)
	if limiter, err = limit.New(t.Context(), limit.Options{Journal: file.Limits()}); err != nil {
		t.Fatal(err)
	}
	if table, err = block.New(t.Context(), block.Options{Journal: file.Blocks()}); err != nil {
		t.Fatal(err)
	}
	if result := limiter.Peek(key, 1, time.Now()); result.Remaining != 6350 {
		t.Errorf("after a clean stop %d calls remain, expected 6350", result.Remaining)
	}
	if left, blocked := table.Blocked(attacker, time.Now()); !blocked || left > 5*time.Minute {
		t.Errorf("after a clean stop: blocked %v for %v", blocked, left)
	}
	if err := file.Close(); err != nil { // and not limiter.Close: unclean
		t.Fatal(err)
	}

	file = open(t, path)
	if limiter, err = limit.New(t.Context(), limit.Options{Journal: file.Limits()}); err != nil {
		t.Fatal(err)
	}
	if result := limiter.Peek(key, 1, time.Now()); result.Remaining != 6250 {
		t.Errorf("after an unclean stop %d calls remain, expected 6250", result.Remaining)
	}
}
