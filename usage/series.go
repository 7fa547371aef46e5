package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/tokenkithq/authz/apikey"
)

// Bounds of what can be asked for at once.
const (
	MaxPoints = 1000
	MaxKeys   = 100
)

// Point is what a key did in one period.
type Point struct {
	Time   time.Time // when the period begins, in UTC
	Counts Counts
}

// Series returns what a key did, period by period, oldest first: from the
// period that from is in to the last one that begins before to. Periods
// without calls, and those whose counts are no longer kept, are there with
// zeros. It returns an [*apikey.FieldError] where to is not after from, or
// where that makes more than [MaxPoints].
func (r *Recorder) Series(ctx context.Context, id apikey.KeyID, resolution Resolution, from, to time.Time) ([]Point, error) {
	all, err := r.SeriesOf(ctx, []apikey.KeyID{id}, resolution, from, to)
	return all[id], err
}

// Totals returns what each of up to [MaxKeys] keys did in each of the last 24
// hours; the last one is the present one, which goes on.
func (r *Recorder) Totals(ctx context.Context, ids []apikey.KeyID, now time.Time) (map[apikey.KeyID][]Point, error) {
	return r.SeriesOf(ctx, ids, Hour, now.Add(-23*time.Hour), now.Add(time.Second))
}

// SeriesOf returns the [Recorder.Series] of each of up to [MaxKeys] keys, of
// one moment. More are an [*apikey.FieldError].
func (r *Recorder) SeriesOf(ctx context.Context, ids []apikey.KeyID, resolution Resolution, from, to time.Time) (map[apikey.KeyID][]Point, error) {
	query, err := newQuery(ids, resolution, from, to)
	if err != nil {
		return nil, err
	}
	// A key that is folded while it is read is read again; that happens to a
	// key once a minute.
	for range 3 {
		if series, err := r.read(ctx, query); series != nil || err != nil {
			return series, err
		}
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("reading usage: %w", ctx.Err())
	}
	series, err := r.read(ctx, query)
	if series == nil && err == nil {
		err = errors.New("reading usage: it was changed by somebody else")
	}
	return series, err
}

func newQuery(ids []apikey.KeyID, resolution Resolution, from, to time.Time) (*Query, error) {
	if resolution > Day {
		return nil, &apikey.FieldError{Field: "resolution", Err: errors.New("expected minute, hour or day")}
	}
	if len(ids) > MaxKeys {
		return nil, &apikey.FieldError{Field: "key_id", Err: fmt.Errorf("expected at most %d keys, got %d", MaxKeys, len(ids))}
	}
	if !to.After(from) {
		return nil, &apikey.FieldError{Field: "to", Err: errors.New("expected a time after from")}
	}
	first := resolution.Start(minuteOf(from))
	end := resolution.Start(minuteOf(to.Add(-1))) + resolution.Minutes()
	if n := (end - first) / resolution.Minutes(); n > MaxPoints {
		return nil, &apikey.FieldError{Field: "from", Err: fmt.Errorf("expected at most %d points, got %d from there to the end", MaxPoints, n)}
	}
	return &Query{Keys: slices.Compact(slices.Sorted(slices.Values(ids))), Resolution: resolution, From: first, To: end}, nil
}

// memory is what is known of one key and not in its history.
type memory struct {
	points []Point
	moving []Period // in its history if that has the fold's number
}

// read reads once. It returns nil where the keys changed meanwhile.
func (r *Recorder) read(ctx context.Context, query *Query) (map[apikey.KeyID][]Point, error) {
	memories, number, fold := r.recall(query)
	changed := false
	err := r.journal.Read(ctx, query, func(key apikey.KeyID, last uint64, periods []Period) {
		changed = changed || last > number
		m, wanted := memories[key]
		if !wanted {
			return
		}
		for i := range periods {
			query.add(m.points, &periods[i])
		}
		if last < fold {
			for i := range m.moving {
				query.add(m.points, &m.moving[i])
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reading usage: %w", err)
	}
	if changed {
		return nil, nil
	}
	series := make(map[apikey.KeyID][]Point, len(query.Keys))
	for _, id := range query.Keys {
		if m, known := memories[id]; known {
			series[id] = m.points
		} else {
			series[id] = query.zeros()
		}
	}
	return series, nil
}

// recall returns what is in memory of each key that is not forgotten, the last
// number that was used, and that of the fold that moves parts of it.
func (r *Recorder) recall(query *Query) (memories map[apikey.KeyID]memory, number, fold uint64) {
	memories = make(map[apikey.KeyID]memory, len(query.Keys))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range query.Keys {
		if _, gone := r.forgotten[id]; gone {
			continue
		}
		m := memory{points: query.zeros()}
		for i := range r.open[id] {
			query.add(m.points, &r.open[id][i])
		}
		s := r.shard(id)
		s.mu.Lock()
		for i := range s.table.deltas {
			if d := &s.table.deltas[i]; d.Key == id {
				query.add(m.points, &Period{Start: d.Minute, Counts: d.Counts})
			}
		}
		s.mu.Unlock()
		if r.folding != nil {
			m.moving = r.folding.of(id)
		}
		memories[id] = m
	}
	if r.folding != nil {
		fold = r.folding.Number
	}
	return memories, r.number, fold
}

// of returns the periods of one key.
func (f *Fold) of(id apikey.KeyID) (periods []Period) {
	first := sort.Search(len(f.Deltas), func(i int) bool { return f.Deltas[i].Key >= id })
	for _, d := range f.Deltas[first:] {
		if d.Key != id {
			break
		}
		periods = append(periods, Period{Start: d.Minute, Counts: d.Counts})
	}
	return periods
}

// zeros returns the points of a key that did nothing.
func (q *Query) zeros() []Point {
	length := q.Resolution.Minutes()
	points := make([]Point, (q.To-q.From)/length)
	for i := range points {
		points[i].Time = timeOf(q.From + int64(i)*length)
	}
	return points
}

// add adds a period, which may be shorter than a point's, where it belongs.
func (q *Query) add(points []Point, p *Period) {
	if p.Start < q.From || p.Start >= q.To {
		return
	}
	points[(p.Start-q.From)/q.Resolution.Minutes()].Counts.Add(&p.Counts)
}
