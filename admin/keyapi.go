package admin

import (
	"context"
	"net/http"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

// The shapes of what operations on one key take.
type (
	keyPath struct {
		KeyID int64 `path:"key_id" minimum:"1" maximum:"9007199254740991" doc:"The id that creating or listing the key gave." example:"123"`
	}
	keyInput[T any] struct {
		KeyID int64 `path:"key_id" minimum:"1" maximum:"9007199254740991" doc:"The id that creating or listing the key gave." example:"123"`
		Body  T
	}
	deleteKeyRequest struct {
		KeyID int64 `json:"key_id" minimum:"1" maximum:"9007199254740991" doc:"The id that creating or listing the key gave." example:"123"`
	}
	deleteKeysRequest struct {
		KeyIDs []int64 `json:"key_ids" nullable:"false" minItems:"1" maxItems:"100" minimum:"1" maximum:"9007199254740991" doc:"The ids of up to 100 keys."`
	}
	createKeysRequest struct {
		Keys []NewKey `json:"keys" nullable:"false" minItems:"1" maxItems:"100" doc:"Up to 100 keys."`
	}
)

// registerKey adds the operations on keys that both APIs have.
func registerKey(a *api, s *service) {
	one := a.keys + "{key_id}/"
	register(a, operation{
		id: "get-api-key", method: http.MethodGet, path: one, summary: "Show a key", session: true, codes: []string{CodeNotFound},
	}, func(ctx context.Context, request *keyPath) (*answer[Key], error) {
		key, err := s.store.Key(ctx, callerFrom(ctx).sees(), apikey.KeyID(request.KeyID))
		if err != nil {
			return nil, err
		}
		return &answer[Key]{keyOf(key, s.now())}, nil
	})
	register(a, operation{
		id: "update-api-key", method: http.MethodPatch, path: one, summary: "Change a key", session: true, may: mayChangeKeys,
		description: "Changes the fields that the body has. Checks see the change once this is answered.",
		codes:       []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *keyInput[KeyChange]) (*answer[Key], error) {
		by := callerFrom(ctx)
		return answered(s.changeKey(ctx, by.actor, by.manages(), apikey.KeyID(request.KeyID), &request.Body))
	})
	register(a, operation{
		id: "rotate-api-key", method: http.MethodPost, path: one + "rotate/", summary: "Give a key a new value", session: true, may: mayChangeKeys,
		description: "The key keeps its id, limits and usage. The value it has now goes on working for a while, on the same hourly limit; one before that stops at once.",
		codes:       []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *keyInput[Rotation]) (*answer[CreatedKey], error) {
		by := callerFrom(ctx)
		return answered(s.rotateKey(ctx, by.actor, by.manages(), apikey.KeyID(request.KeyID), &request.Body))
	})
	register(a, operation{
		id: "delete-api-key", method: http.MethodPost, path: a.keys + "delete/", summary: "Delete a key", session: true, may: mayChangeKeys,
		description: "Once this is answered, requests that use the key get 401.", codes: []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[deleteKeyRequest]) (*answer[DeletedKey], error) {
		by := callerFrom(ctx)
		return answered(s.deleteKey(ctx, by.actor, by.manages(), apikey.KeyID(request.Body.KeyID)))
	})
	register(a, operation{
		id: "batch-delete-api-keys", method: http.MethodPost, path: a.keys + "batch-delete/", summary: "Delete several keys, all or none", session: true,
		may: mayChangeKeys, codes: []string{CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[deleteKeysRequest]) (*list[DeletedKey], error) {
		by := callerFrom(ctx)
		return listed(s.deleteKeys(ctx, by.actor, by.manages(), request.Body.KeyIDs))
	})
}

// registerOwnKeys adds the operations by which users make keys.
func registerOwnKeys(public *api, s *service) {
	register(public, operation{
		id: "create-api-key", method: http.MethodPost, path: public.base + "create-api-key/", summary: "Mint a new API key", session: true,
		may: mayChangeKeys, status: http.StatusCreated, codes: []string{CodeStorageFull},
		description: "Makes a key of the session's user. The field key of the answer is the key itself: only its hash is kept, so it cannot be shown again.",
	}, func(ctx context.Context, request *input[NewKey]) (*answer[CreatedKey], error) {
		by := callerFrom(ctx)
		return answered(s.createKey(ctx, by.actor, by.account, &request.Body))
	})
	register(public, operation{
		id: "batch-create-api-keys", method: http.MethodPost, path: public.keys + "batch-create/", summary: "Mint several keys, all or none", session: true,
		may: mayChangeKeys, status: http.StatusCreated, codes: []string{CodeStorageFull},
	}, func(ctx context.Context, request *input[createKeysRequest]) (*list[CreatedKey], error) {
		by := callerFrom(ctx)
		return listed(s.createKeys(ctx, by.actor, by.account, request.Body.Keys))
	})
	register(public, operation{
		id: "list-api-keys", method: http.MethodGet, path: public.keys, summary: "List keys", session: true,
		description: "Without any parameter, lists all keys of the session's user by ascending id. With one, lists a page of the keys that the " +
			"parameters describe, the newest first; the header X-Total-Count says how many there are in all, and Link where the next page is.",
		codes: []string{CodeForbidden, CodeNotFound},
	}, func(ctx context.Context, query *keyQuery) (*page[Key], error) {
		by := callerFrom(ctx)
		owner, err := s.ownerOf(ctx, by, query.Owner)
		if err != nil {
			return nil, err
		}
		if *query == (keyQuery{}) {
			return allPages(s.listKeys(ctx, owner))
		}
		return s.searchKeys(ctx, public.keys, owner, query)
	})
}

// ownerOf returns whose keys a caller asks for: zero stands for everybody's.
func (s *service) ownerOf(ctx context.Context, by caller, name string) (apikey.UserID, error) {
	switch {
	case name == "":
		return by.user, nil
	case name == "*" && maySeeAll(by.role):
		return 0, nil
	case name != "*":
		if login, err := store.CanonicalLogin(name); err == nil && by.account != nil && (login == by.name || login == by.account.Email) {
			return by.user, nil
		}
	}
	if !maySeeAll(by.role) {
		return 0, newProblem(CodeForbidden)
	}
	user, err := s.findUser(ctx, "query.owner", name)
	if err != nil {
		return 0, err
	}
	return user.ID, nil
}

// answered is the answer of an operation that returned value and err.
func answered[T any](value T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{value}, nil
}

// listed is the answer of an operation that returned values and err.
func listed[T any](values []T, err error) (*list[T], error) {
	if err != nil {
		return nil, err
	}
	return &list[T]{values}, nil
}
