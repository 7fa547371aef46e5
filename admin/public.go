package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/store"
)

type loginRequest struct {
	Username string `json:"username" minLength:"1" maxLength:"254" doc:"User name or address." example:"you@example.com"`
	Password string `json:"password" minLength:"1" maxLength:"1024" writeOnly:"true"`
}

type loginAnswer struct {
	Token     string    `json:"token" doc:"The session's token, for Authorization: Bearer." pattern:"^tks_[0-9A-Za-z_-]{43}$"`
	ExpiresAt time.Time `json:"expires_at" doc:"When the session ends, used or not."`
}

type deleteKeyRequest struct {
	KeyID int64 `json:"key_id" minimum:"1" maximum:"9007199254740991" doc:"The id that creating or listing the key gave." example:"123"`
}

type statusAnswer struct {
	Status string `json:"status" enum:"ok"`
}

// The shapes that huma reads and writes.
type (
	nothing       struct{}
	input[T any]  struct{ Body T }
	answer[T any] struct{ Body T }
	// list keeps an empty list from being described as possibly null.
	list[T any] struct {
		Body []T `nullable:"false"`
	}
)

const publicDescription = `Log in, then create, list and delete API keys.

Every address works with and without its last slash. Bodies are JSON objects of at most 64 KiB in which unknown
fields, fields given twice and values of another type are refused by name. Refusals are problems of RFC 9457
(application/problem+json) whose code is stable. An api-key header, which other parts of the API need, is ignored here.`

func (a *Admin) publicAPI(s *service) (http.Handler, error) {
	public := newAPI(s, huma.Info{Title: "TokenKit API keys", Description: publicDescription, Version: a.options.Version}, CodeInternal)
	public.OpenAPI().Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "http", Scheme: "bearer", Description: "The token of a login."},
	}
	registerSessions(public, s)
	registerKeys(public, s)
	a.registerHealth(public)
	if err := public.serveDescription("/openapi"); err != nil {
		return nil, err
	}
	public.adapter.finish()
	hosts := newHostGuard(a.options.AllowedHosts, a.options.ListenAddress)
	protection := guards{logger: s.logger, addressHeader: a.options.ClientAddressHeader, hosts: &hosts}
	return protection.protect(public.adapter), nil
}

func registerSessions(public *api, s *service) {
	register(public, operation{
		id: "login", method: http.MethodPost, path: "/api/users/auth/login/", summary: "Log in",
		description: "Exchanges a user name or address and a password for the token of a new session.",
		codes:       []string{CodeMisdirected, CodeInvalidCredentials, CodeTooManyAttempts, CodeBusy, CodeStorageUnavailable, CodeStorageFull, CodeStorageDamaged},
	}, func(ctx context.Context, request *input[loginRequest]) (*answer[loginAnswer], error) {
		token, expires, err := s.login(ctx, addressFrom(ctx), request.Body.Username, request.Body.Password)
		if err != nil {
			return nil, err
		}
		return &answer[loginAnswer]{loginAnswer{Token: token.reveal(), ExpiresAt: expires}}, nil
	})
	register(public, operation{
		id: "logout", method: http.MethodPost, path: "/api/users/auth/logout/", summary: "Log out", session: true,
		description: "Ends the session whose token the request carries.", status: http.StatusNoContent,
		codes: []string{CodeMisdirected, CodeStorageFull},
	}, func(ctx context.Context, _ *nothing) (*nothing, error) {
		return nil, s.logout(ctx, callerFrom(ctx))
	})
}

func registerKeys(public *api, s *service) {
	register(public, operation{
		id: "create-api-key", method: http.MethodPost, path: "/api/users/auth/create-api-key/", summary: "Mint a new API key", session: true,
		description: "Makes a key of the session's user. The field key of the answer is the key itself: only its hash is kept, so it cannot be shown again.",
		status:      http.StatusCreated, codes: []string{CodeMisdirected, CodeStorageFull},
	}, func(ctx context.Context, request *input[NewKey]) (*answer[CreatedKey], error) {
		by := callerFrom(ctx)
		created, err := s.createKey(ctx, by.actor, &store.User{ID: by.user, Name: by.name}, request.Body)
		if err != nil {
			return nil, err
		}
		return &answer[CreatedKey]{created}, nil
	})
	register(public, operation{
		id: "list-api-keys", method: http.MethodGet, path: "/api/users/auth/api-keys/", summary: "List your keys", session: true,
		description: "Lists the keys of the session's user by ascending id, without their values.",
		codes:       []string{CodeMisdirected},
	}, func(ctx context.Context, _ *nothing) (*list[Key], error) {
		keys, err := s.listKeys(ctx, callerFrom(ctx).user)
		if err != nil {
			return nil, err
		}
		return &list[Key]{keys}, nil
	})
	register(public, operation{
		id: "delete-api-key", method: http.MethodPost, path: "/api/users/auth/api-keys/delete/", summary: "Delete a key", session: true,
		description: "Deletes a key of the session's user. Once this is answered, requests that use the key get 401.",
		codes:       []string{CodeMisdirected, CodeNotFound, CodeStorageFull},
	}, func(ctx context.Context, request *input[deleteKeyRequest]) (*answer[DeletedKey], error) {
		by := callerFrom(ctx)
		deleted, err := s.deleteKey(ctx, by.actor, by.user, apikey.KeyID(request.Body.KeyID))
		if err != nil {
			return nil, err
		}
		return &answer[DeletedKey]{deleted}, nil
	})
}

func (a *Admin) registerHealth(public *api) {
	ok := func() *answer[statusAnswer] { return &answer[statusAnswer]{statusAnswer{"ok"}} }
	register(public, operation{
		id: "livez", method: http.MethodGet, path: "/livez", summary: "Whether the process answers",
	}, func(context.Context, *nothing) (*answer[statusAnswer], error) { return ok(), nil })
	register(public, operation{
		id: "readyz", method: http.MethodGet, path: "/readyz", summary: "Whether the server can serve",
		codes: []string{CodeNotReady},
	}, func(ctx context.Context, _ *nothing) (*answer[statusAnswer], error) {
		if a.options.Ready != nil {
			if err := a.options.Ready(ctx); err != nil {
				a.options.Logger.WarnContext(ctx, "not ready", "error", err)
				return nil, newProblem(CodeNotReady)
			}
		}
		return ok(), nil
	})
}
