package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

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

const publicDescription = `Log in, then create, change, watch and delete API keys.

Every address works with and without its last slash. Bodies are JSON objects of at most 64 KiB in which unknown
fields, fields given twice and values of another type are refused by name. Refusals are problems of RFC 9457
(application/problem+json) whose code is stable. An api-key header, which other parts of the API need, is ignored here.`

func (a *Admin) publicAPI(s *service) http.Handler {
	public := newAPI(s, huma.Info{Title: "TokenKit API keys", Description: publicDescription, Version: a.options.Version}, CodeInternal, CodeMisdirected)
	public.base, public.keys = "/api/users/auth/", "/api/users/auth/api-keys/"
	public.OpenAPI().Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "http", Scheme: "bearer", Description: "The token of a login."},
		"cookie":  {Type: "apiKey", In: "cookie", Name: s.cookie.name(), Description: "The cookie of a login from a web page."},
	}
	public.adapter.pages = a.options.Dashboard
	registerLogin(public, s)
	registerOwnKeys(public, s)
	registerKey(public, s)
	registerUsage(public, s)
	registerExplain(public, s)
	registerOwnSessions(public, s)
	registerAudit(public, s)
	registerUserList(public, s)
	registerPeople(public, s)
	registerInvitations(public, s)
	registerAccept(public, s)
	registerBlocks(public, s, public.base+"blocked/")
	a.registerHealth(public)
	public.linkKeys(public.base+"create-api-key/", http.MethodPost, "201", "/id")
	public.linkKeys(public.keys, http.MethodGet, "200", "/0/id")
	public.serveDescription("/openapi")
	public.adapter.finish()
	hosts := func(host string) bool { return s.policy.Load().hosts.allows(host) }
	protection := guards{logger: s.logger, addressHeader: a.options.ClientAddressHeader, hosts: hosts, observer: a.options.Observer}
	return protection.protect(public.adapter)
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
