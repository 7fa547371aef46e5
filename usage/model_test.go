package usage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
)

// cell is what an exact log says of a key and minute.
type cell struct {
	counts usage.Counts
	// By resolution: it was outside of what is kept when something was
	// removed, so that it may be missing.
	doubt [3]bool
}

type pair struct {
	id     apikey.KeyID
	minute int64
}

// model is a recorder on a file, and an exact log of what it was told.
type model struct {
	t        *rapid.T
	path     string
	journal  *faulty
	recorder *usage.Recorder
	now      time.Time
	log      map[pair]*cell
	ids      [slots]apikey.KeyID // in use
}

const slots = 5

// keeps are the defaults of usagefile, by resolution.
var keeps = [3]time.Duration{3 * time.Hour, 31 * 24 * time.Hour, 400 * 24 * time.Hour}

func (m *model) start() {
	m.recorder = newRecorder(m.t, usage.Options{Journal: m.journal, FoldEvery: 1, Now: func() time.Time { return m.now }})
}

// maintained notes what may be removed now.
func (m *model) maintained(now time.Time) {
	for p, c := range m.log {
		for r := range c.doubt {
			length := usage.Resolution(r).Duration()
			start := time.Unix(p.minute*60, 0).Truncate(length)
			// The minute before and after are those of now and of its minute.
			old := start.Add(length).Sub(now) < -keeps[r]+time.Minute
			far := start.Sub(now) > keeps[r]-time.Minute
			c.doubt[r] = c.doubt[r] || old || far
		}
	}
}

func (m *model) cell(id apikey.KeyID, minute int64) *cell {
	p := pair{id, minute}
	if m.log[p] == nil {
		m.log[p] = &cell{}
	}
	return m.log[p]
}

func (m *model) record() {
	id := m.ids[rapid.IntRange(0, slots-1).Draw(m.t, "key")]
	reasons := apikey.Reasons()
	at := m.now.Add(-time.Duration(rapid.IntRange(0, 90).Draw(m.t, "seconds ago")) * time.Second)
	for range rapid.IntRange(1, 20).Draw(m.t, "calls") {
		reason := rapid.SampledFrom(reasons).Draw(m.t, "reason")
		m.recorder.Record(id, reason, at)
		if outcome, known := usage.OutcomeOf(reason); known {
			m.cell(id, at.Unix()/60).counts[outcome]++
		}
	}
}

func (m *model) pass() {
	seconds := rapid.OneOf(rapid.IntRange(1, 120), rapid.IntRange(60, 4*3600), rapid.IntRange(3600, 3*86400),
		rapid.IntRange(86400, 500*86400), rapid.IntRange(-7200, 0), rapid.IntRange(-30*86400, 0)).Draw(m.t, "seconds")
	m.now = m.now.Add(time.Duration(seconds) * time.Second)
}

// fault makes a kind of change fail, or succeed again.
func (m *model) fault() {
	method := rapid.SampledFrom([]string{"append", "fold", "trim", "forget", "expire"}).Draw(m.t, "method")
	err := rapid.SampledFrom([]error{errDisk, nil, nil}).Draw(m.t, "error")
	m.journal.fail(rapid.Bool().Draw(m.t, "before"), method, err)
}

func (m *model) forget() {
	slot := rapid.IntRange(0, slots-1).Draw(m.t, "key")
	id := m.ids[slot]
	m.recorder.Forget(id)
	for p, c := range m.log {
		if p.id == id {
			c.counts = usage.Counts{} // a crash may bring it back
		}
	}
	m.ids[slot] += slots // as no id is used again
}

// crash loses all that was not written, and finds the rest.
func (m *model) crash() {
	if err := m.journal.Close(); err != nil {
		m.t.Fatal(err)
	}
	for _, c := range m.log {
		c.counts = usage.Counts{}
	}
	for _, deltas := range m.journal.entries {
		for i := range deltas {
			m.cell(deltas[i].Key, deltas[i].Minute).counts.Add(&deltas[i].Counts)
		}
	}
	clear(m.journal.before)
	clear(m.journal.after)
	m.journal.open(m.t, m.path)
	m.start()
}

func (m *model) reopen() {
	clear(m.journal.before)
	clear(m.journal.after)
	if err := m.recorder.Close(context.Background()); err != nil {
		m.t.Fatal(err)
	}
	if err := m.journal.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.journal.open(m.t, m.path)
	m.start()
}

func (m *model) compare() {
	resolution := usage.Resolution(rapid.IntRange(0, 2).Draw(m.t, "resolution"))
	length := resolution.Duration()
	from := m.now.Add(-time.Duration(rapid.IntRange(-20, 900).Draw(m.t, "periods ago")) * length)
	to := from.Add(time.Duration(rapid.IntRange(1, 900).Draw(m.t, "periods")) * length)
	ids := slices.Clone(m.ids[:])
	for _, id := range m.ids {
		if id > slots {
			ids = append(ids, id-slots) // was forgotten, unless a crash came first
		}
	}
	got, err := m.recorder.SeriesOf(context.Background(), ids, resolution, from, to)
	if err != nil {
		m.t.Fatal(err)
	}
	first := from.Truncate(length)
	for _, id := range ids {
		want := make([]usage.Counts, len(got[id]))
		doubt := make([]bool, len(got[id]))
		for p, c := range m.log {
			i := int(time.Unix(p.minute*60, 0).UTC().Truncate(length).Sub(first) / length)
			if at := time.Unix(p.minute*60, 0); p.id == id && !at.Before(first) && i < len(want) {
				want[i].Add(&c.counts)
				doubt[i] = doubt[i] || c.doubt[resolution]
			}
		}
		for i, point := range got[id] {
			if !point.Time.Equal(first.Add(time.Duration(i) * length)) {
				m.t.Fatalf("point %d is of %v, expected %v", i, point.Time, first.Add(time.Duration(i)*length))
			}
			for o := range point.Counts {
				if point.Counts[o] > want[i][o] || point.Counts[o] < want[i][o] && !doubt[i] {
					m.t.Fatalf("key %d, %v %v: %v, expected %v", id, resolution, point.Time, point.Counts, want[i])
				}
			}
		}
	}
}

func (m *model) run() {
	m.t.Repeat(map[string]func(*rapid.T){
		"record":  func(t *rapid.T) { m.t = t; m.record() },
		"record2": func(t *rapid.T) { m.t = t; m.record() },
		"pass":    func(t *rapid.T) { m.t = t; m.pass() },
		"fault":   func(t *rapid.T) { m.t = t; m.fault() },
		"flush":   func(t *rapid.T) { m.t = t; m.wrote(m.recorder.Flush(context.Background())) },
		"step":    func(t *rapid.T) { m.t = t; m.wrote(m.recorder.Step(context.Background())) },
		"expire":  func(t *rapid.T) { m.t = t; m.wrote(m.journal.Expire(context.Background(), m.now)) },
		"forget":  func(t *rapid.T) { m.t = t; m.forget() },
		"crash":   func(t *rapid.T) { m.t = t; m.crash() },
		"reopen":  func(t *rapid.T) { m.t = t; m.reopen() },
		"":        func(t *rapid.T) { m.t = t; m.compare() },
	})
}

// wrote checks that a change failed only where it was made to.
func (m *model) wrote(err error) {
	if err != nil && len(m.journal.before)+len(m.journal.after) == 0 {
		m.t.Fatal(err)
	}
}

// Whatever is recorded, written, lost in a crash, forgotten and done to the
// clock and to the disk: the series is that of an exact log.
func TestModel(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "usage")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, fmt.Sprint(rand.Uint64()))
		m := &model{t: t, path: path, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), log: map[pair]*cell{}, ids: [slots]apikey.KeyID{1, 2, 3, 4, 5}}
		m.journal = newFaulty(t, path)
		m.journal.maintained = m.maintained
		defer func() {
			_ = m.journal.Close()
			_ = os.Remove(path)
		}()
		m.start()
		m.run()
	})
}
