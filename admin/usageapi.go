package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/usage"
)

// UsagePoint is how many calls of a key had which outcome in one period.
type UsagePoint struct {
	Time    time.Time `json:"time" doc:"When the period begins, in UTC."`
	Allowed uint64    `json:"allowed"`
	Limited uint64    `json:"limited" doc:"Denied because the hourly limit was spent."`
	Origin  uint64    `json:"origin" doc:"Denied because of their origin."`
	Address uint64    `json:"address" doc:"Denied because of their address."`
	Scope   uint64    `json:"scope" doc:"Denied because of the key's scopes."`
	State   uint64    `json:"state" doc:"Denied because the key was paused or had expired."`
}

func pointsOf(points []usage.Point) []UsagePoint {
	all := make([]UsagePoint, len(points))
	for i, p := range points {
		all[i] = UsagePoint{
			Time: p.Time.UTC(), Allowed: p.Counts[usage.Allowed], Limited: p.Counts[usage.Limited], Origin: p.Counts[usage.Origin],
			Address: p.Counts[usage.Address], Scope: p.Counts[usage.Scope], State: p.Counts[usage.State],
		}
	}
	return all
}

// UsageSeries is what a key did, period by period.
type UsageSeries struct {
	Resolution string       `json:"resolution" enum:"minute,hour,day"`
	From       time.Time    `json:"from"`
	To         time.Time    `json:"to"`
	Points     []UsagePoint `json:"points" nullable:"false" doc:"By ascending time, periods without calls too."`
}

// KeyUsage is what a key did in the last 24 hours, hour by hour.
type KeyUsage struct {
	KeyID  apikey.KeyID `json:"key_id"`
	Points []UsagePoint `json:"points" nullable:"false"`
	Limit  LimitInfo    `json:"limit"`
}

// LimitInfo is the state of a key's hourly limit.
type LimitInfo struct {
	Limit     *uint32    `json:"limit" nullable:"true" doc:"null: the key has none."`
	Used      *uint32    `json:"used" nullable:"true" doc:"How many calls of the limit the last 60 minutes took. null: there is no limit."`
	Remaining *uint32    `json:"remaining" nullable:"true" doc:"How many calls are left. null: there is no limit."`
	ResetsAt  *time.Time `json:"resets_at" nullable:"true" doc:"When the next call returns to what remains, or a call is allowed again where none is left. null: all calls are there."`
}

type usageQuery struct {
	KeyID      int64     `path:"key_id" minimum:"1" maximum:"9007199254740991" doc:"The id that creating or listing the key gave." example:"123"`
	Resolution string    `query:"resolution" enum:"minute,hour,day" doc:"Of the periods. Absent: hour."`
	From       time.Time `query:"from" doc:"The first period is the one that this time is in. Absent: 60 minutes, 24 hours or 30 days before to."`
	To         time.Time `query:"to" doc:"The last period is the last that begins before this time. Absent: now."`
}

type usageOfKeys struct {
	KeyIDs []int64 `query:"key_id,explode" required:"true" minItems:"1" maxItems:"100" minimum:"1" maximum:"9007199254740991" doc:"The ids of up to 100 keys. Those that do not exist are left out."`
}

func registerUsage(a *api, s *service) {
	register(a, operation{
		id: "get-usage", method: http.MethodGet, path: a.keys + "{key_id}/usage/", summary: "What a key did", session: true,
		description: "Counts are at most a second old. Minutes are kept for some hours, hours for a month and days for a year; at most 1000 periods can be asked for at once.",
		codes:       []string{CodeNotFound, CodeNotImplemented},
	}, func(ctx context.Context, query *usageQuery) (*answer[UsageSeries], error) {
		return answered(s.usageOf(ctx, callerFrom(ctx), query))
	})
	register(a, operation{
		id: "get-limit", method: http.MethodGet, path: a.keys + "{key_id}/limit/", summary: "How much of its hourly limit a key has used", session: true,
		codes: []string{CodeNotFound, CodeNotImplemented},
	}, func(ctx context.Context, request *keyPath) (*answer[LimitInfo], error) {
		if s.limits == nil {
			return nil, newProblem(CodeNotImplemented)
		}
		key, err := s.store.Key(ctx, callerFrom(ctx).sees(), apikey.KeyID(request.KeyID))
		if err != nil {
			return nil, err
		}
		return &answer[LimitInfo]{s.limitOf(key, s.now())}, nil
	})
	register(a, operation{
		id: "list-usage", method: http.MethodGet, path: a.base + "usage/", summary: "What several keys did in the last 24 hours, by the hour", session: true,
		codes: []string{CodeNotImplemented},
	}, func(ctx context.Context, query *usageOfKeys) (*list[KeyUsage], error) {
		return listed(s.usageOfKeys(ctx, callerFrom(ctx), query.KeyIDs))
	})
}

// spans are how far back a series goes that does not say.
var spans = [...]time.Duration{usage.Minute: time.Hour, usage.Hour: 24 * time.Hour, usage.Day: 30 * 24 * time.Hour}

func (s *service) usageOf(ctx context.Context, by caller, query *usageQuery) (UsageSeries, error) {
	if s.usage == nil {
		return UsageSeries{}, newProblem(CodeNotImplemented)
	}
	key, err := s.store.Key(ctx, by.sees(), apikey.KeyID(query.KeyID))
	if err != nil {
		return UsageSeries{}, err
	}
	resolution := usage.Hour
	if query.Resolution != "" {
		if resolution, err = usage.ParseResolution(query.Resolution); err != nil {
			return UsageSeries{}, err
		}
	}
	from, to := query.From.UTC(), query.To.UTC()
	if query.To.IsZero() {
		// The period that begins with this very moment is the present one.
		to = s.now().UTC().Add(time.Second)
	}
	if query.From.IsZero() {
		from = to.Add(resolution.Duration() - spans[resolution])
	}
	series, err := s.usage.SeriesOf(ctx, []apikey.KeyID{key.ID}, resolution, from, to)
	if err != nil {
		return UsageSeries{}, inQuery(fmt.Errorf("reading what a key did: %w", err))
	}
	return UsageSeries{resolution.String(), from, to, pointsOf(series[key.ID])}, nil
}

func (s *service) usageOfKeys(ctx context.Context, by caller, ids []int64) ([]KeyUsage, error) {
	if s.usage == nil {
		return nil, newProblem(CodeNotImplemented)
	}
	now := s.now()
	all := []KeyUsage{}
	keys := make([]apikey.KeyID, 0, len(ids))
	for _, id := range ids {
		key, err := s.store.Key(ctx, by.sees(), apikey.KeyID(id))
		if problem, fault := problemFor(err); err != nil && !fault && problem.Code == CodeNotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, key.ID)
		all = append(all, KeyUsage{KeyID: key.ID, Limit: s.limitOf(key, now)})
	}
	series, err := s.usage.SeriesOf(ctx, keys, usage.Hour, now.Add(-23*time.Hour), now.Add(time.Second))
	if err != nil {
		return nil, inQuery(fmt.Errorf("reading what keys did: %w", err))
	}
	for i := range all {
		all[i].Points = pointsOf(series[all[i].KeyID])
	}
	return all, nil
}

// limitOf returns the state of a key's limit, as far as it is known.
func (s *service) limitOf(key *apikey.Key, now time.Time) LimitInfo {
	if s.limits == nil || key.RateLimitPerHour == 0 {
		return LimitInfo{}
	}
	return limitInfo(s.limits.LimitState(key, now), now)
}

func limitInfo(state LimitState, now time.Time) LimitInfo {
	if state.Limit == 0 {
		return LimitInfo{}
	}
	used := state.Limit - min(state.Remaining, state.Limit)
	info := LimitInfo{Limit: &state.Limit, Used: &used, Remaining: &state.Remaining}
	if state.Returns > 0 {
		info.ResetsAt = timeOrNil(now.Add(state.Returns).Truncate(time.Millisecond))
	}
	return info
}
