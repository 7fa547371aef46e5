package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// AuditEvent says that somebody did something.
type AuditEvent struct {
	ID      int64         `json:"id" doc:"Ascending, and never used again."`
	Time    time.Time     `json:"time"`
	Actor   AuditActor    `json:"actor"`
	Action  string        `json:"action" doc:"Such as key.create, user.update or login.fail." example:"key.update"`
	Target  AuditTarget   `json:"target"`
	Changes []AuditChange `json:"changes" nullable:"false"`
}

// AuditActor is who did it.
type AuditActor struct {
	Kind    string        `json:"kind" enum:"user,operator,system" doc:"operator: the command line. system: the server itself."`
	UserID  apikey.UserID `json:"user_id" doc:"0: no user, or none who signed in."`
	Name    string        `json:"name"`
	Address string        `json:"address" doc:"Where from. Empty: not known, or this machine."`
}

// AuditTarget is to what it was done.
type AuditTarget struct {
	Kind string `json:"kind" doc:"key, user, session, address or store; perhaps empty."`
	ID   int64  `json:"id" doc:"Of a key or user, or 0."`
	Name string `json:"name"`
}

// AuditChange is a field that was changed. A side is null where there was, or
// is, nothing.
type AuditChange struct {
	Field string          `json:"field" example:"rate_limit_per_hour"`
	From  json.RawMessage `json:"from"`
	To    json.RawMessage `json:"to"`
}

func eventOf(event *store.Event) AuditEvent {
	info := AuditEvent{
		ID: int64(event.ID), Time: event.By.At.UTC(), Action: string(event.Action),
		Actor:   AuditActor{Kind: string(event.By.Kind), UserID: event.By.User, Name: event.By.Name},
		Target:  AuditTarget{event.TargetKind, event.TargetID, event.TargetName},
		Changes: make([]AuditChange, len(event.Changes)),
	}
	if event.By.Address.IsValid() {
		info.Actor.Address = event.By.Address.String()
	}
	for i, change := range event.Changes {
		info.Changes[i] = AuditChange{change.Field, sideOf(change.From), sideOf(change.To)}
	}
	return info
}

// sideOf returns one side of a change as JSON: text that is none, since it was
// cut, as a string.
func sideOf(text string) json.RawMessage {
	if text == "" {
		return json.RawMessage("null")
	}
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage("null")
	}
	return quoted
}

// AuditQuery describes events of the audit log.
type AuditQuery struct {
	Before   int64     `query:"before" minimum:"1" maximum:"9007199254740991" doc:"Only events with a smaller id, as the Link of the page before says."`
	Limit    int       `query:"limit" minimum:"1" maximum:"1000" doc:"How many events a page has at most. Absent: 100."`
	Actor    string    `query:"actor" maxLength:"254" doc:"Name of who did it."`
	Action   string    `query:"action" maxLength:"64" doc:"How the action begins, such as key. or login.fail." example:"key."`
	Target   string    `query:"target" enum:"key,user,session,address,store" doc:"What it was done to."`
	TargetID int64     `query:"target_id" minimum:"1" maximum:"9007199254740991" doc:"Id of the key or user it was done to; needs target."`
	From     time.Time `query:"from" doc:"Not before this time."`
	To       time.Time `query:"to" doc:"Before this time."`
}

func (q *AuditQuery) values() url.Values {
	values := url.Values{}
	setText(values, map[string]string{"actor": q.Actor, "action": q.Action, "target": q.Target})
	setTimes(values, q.From, q.To)
	for name, value := range map[string]int64{"before": q.Before, "limit": int64(q.Limit), "target_id": q.TargetID} {
		if value != 0 {
			values.Set(name, strconv.FormatInt(value, 10))
		}
	}
	return values
}

func registerAudit(a *api, s *service) {
	path := a.base + "audit/"
	register(a, operation{
		id: "list-audit", method: http.MethodGet, path: path, summary: "List the audit log", session: true,
		description: "Lists every login, failed login and change, the newest first; Link says where the next page is. A member sees what they did themselves, " +
			"and with target=key and target_id all that was done to a key of their own.",
		codes: []string{CodeNotFound},
	}, func(ctx context.Context, query *AuditQuery) (*auditPage, error) {
		filter, err := s.auditFilter(ctx, callerFrom(ctx), query)
		if err != nil {
			return nil, err
		}
		events, err := s.store.ListEvents(ctx, filter)
		if err != nil {
			return nil, err
		}
		result := &auditPage{Body: make([]AuditEvent, len(events))}
		for i, event := range events {
			result.Body[i] = eventOf(event)
		}
		if len(events) == filter.Size() {
			next := query.values()
			next.Set("before", strconv.FormatUint(events[len(events)-1].ID, 10))
			result.Link = nextLink(path, next)
		}
		return result, nil
	})
	s.registerExport(a, path+"export/")
}

type auditPage struct {
	Link string       `header:"Link" doc:"Where the next page is, with rel=next. Absent on the last one."`
	Body []AuditEvent `nullable:"false"`
}

// auditFilter returns what a caller may see of what they ask for.
func (s *service) auditFilter(ctx context.Context, by caller, query *AuditQuery) (store.EventFilter, error) {
	filter := store.EventFilter{
		Before: uint64(query.Before), Limit: query.Limit, ActorName: strings.ToLower(query.Actor), ActionPrefix: query.Action,
		TargetKind: query.Target, TargetID: query.TargetID, From: query.From, To: query.To,
	}
	if query.TargetID != 0 && query.Target == "" {
		return filter, newProblem(CodeInvalidRequest, FieldProblem{Location: "query.target", Message: "expected this parameter together with target_id"})
	}
	if maySeeAll(by.role) {
		return filter, nil
	}
	if query.Target == store.TargetKey && query.TargetID != 0 {
		_, err := s.store.Key(ctx, by.user, apikey.KeyID(query.TargetID))
		return filter, err
	}
	filter.Actor = by.user
	return filter, nil
}
