package admin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// keyQuery describes keys to list.
type keyQuery struct {
	Owner  string `query:"owner" maxLength:"254" doc:"User name or address of the keys' owner, or * for everybody's keys, which needs a role above member. Absent: your own."`
	Search string `query:"search" maxLength:"200" doc:"Part of a key's name, hint, notes, owner or metadata values, whatever the case of letters, or # and its id." example:"prod"`
	State  string `query:"state" enum:"active,paused,expired,expiring,never_used,unused_30d" doc:"expiring: within 7 days. unused_30d: not used for 30 days."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" doc:"How many keys a page has at most. Absent: 50."`
	After  int64  `query:"after" minimum:"1" maximum:"9007199254740991" doc:"Only keys with a smaller id, as the Link of the page before says."`
}

// page is a part of a list.
type page[T any] struct {
	Link  string `header:"Link" doc:"Where the next page is, with rel=next. Absent on the last one."`
	Total string `header:"X-Total-Count" doc:"How many there are on all pages."`
	Body  []T    `nullable:"false"`
}

// allPages is the answer that is not divided.
func allPages[T any](values []T, err error) (*page[T], error) {
	if err != nil {
		return nil, err
	}
	return &page[T]{Total: strconv.Itoa(len(values)), Body: values}, nil
}

// nextLink returns the header that says where the next page is.
func nextLink(path string, query url.Values) string {
	return fmt.Sprintf("<%s?%s>; rel=\"next\"", path, query.Encode())
}

// listKeys returns the keys of owner, or all keys where owner is zero.
func (s *service) listKeys(ctx context.Context, owner apikey.UserID) ([]Key, error) {
	keys, err := s.store.ListKeys(ctx, owner)
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	return s.keysOf(keys), nil
}

func (s *service) keysOf(keys []*apikey.Key) []Key {
	infos := make([]Key, len(keys))
	for i, key := range keys {
		infos[i] = keyOf(key, s.now())
	}
	return infos
}

// searchKeys returns a page of the keys of owner, or of all where owner is
// zero.
func (s *service) searchKeys(ctx context.Context, path string, owner apikey.UserID, query *keyQuery) (*page[Key], error) {
	found, err := s.store.SearchKeys(ctx, store.KeyFilter{
		Owner: owner, Search: query.Search, State: store.KeyState(query.State), After: apikey.KeyID(query.After), Limit: query.Limit, Now: s.now(),
	})
	if err != nil {
		return nil, inQuery(fmt.Errorf("searching keys: %w", err))
	}
	result := &page[Key]{Total: strconv.Itoa(found.Total), Body: s.keysOf(found.Keys)}
	if found.Next != 0 {
		next := url.Values{"after": {strconv.FormatInt(int64(found.Next), 10)}}
		for name, value := range map[string]string{"owner": query.Owner, "search": query.Search, "state": query.State} {
			if value != "" {
				next.Set(name, value)
			}
		}
		if query.Limit > 0 {
			next.Set("limit", strconv.Itoa(query.Limit))
		}
		result.Link = nextLink(path, next)
	}
	return result, nil
}

// inQuery places the field that err names among the parameters of a query.
func inQuery(err error) error {
	var field *apikey.FieldError
	if errors.As(err, &field) {
		return newProblem(CodeInvalidRequest, FieldProblem{Location: "query." + field.Field, Message: field.Err.Error()})
	}
	return err
}
