package admin

import (
	"context"
	"net/http"
	"time"

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

// Me is who a session belongs to.
type Me struct {
	User
	SessionID string    `json:"session_id" doc:"Names the session in lists. It is of no use for signing in."`
	ExpiresAt time.Time `json:"expires_at" doc:"When the session ends, used or not."`
}

func meOf(user *store.User, session *store.Session) Me {
	return Me{userOf(user), session.ID.Public(), session.ExpiresAt.UTC()}
}

type (
	// withCookie is an answer that puts a session's cookie into a browser.
	withCookie[T any] struct {
		SetCookie string `header:"Set-Cookie" doc:"The session's cookie."`
		Body      T
	}
	cookieCleared struct {
		SetCookie string `header:"Set-Cookie" doc:"Takes the session's cookie away."`
	}
)

func registerLogin(public *api, s *service) {
	loginCodes := []string{CodeInvalidCredentials, CodeTooManyAttempts, CodeBusy, CodeStorageUnavailable, CodeStorageFull, CodeStorageDamaged}
	register(public, operation{
		id: "login", method: http.MethodPost, path: public.base + "login/", summary: "Log in",
		description: "Exchanges a user name or address and a password for the token of a new session.", codes: loginCodes,
	}, func(ctx context.Context, request *input[loginRequest]) (*answer[loginAnswer], error) {
		made, err := s.login(ctx, clientFrom(ctx), request.Body.Username, request.Body.Password)
		if err != nil {
			return nil, err
		}
		return &answer[loginAnswer]{loginAnswer{Token: made.token.reveal(), ExpiresAt: made.session.ExpiresAt}}, nil
	})
	register(public, operation{
		id: "login-with-cookie", method: http.MethodPost, path: public.base + "login/cookie/", summary: "Log in from a web page",
		description: "Puts the new session into a cookie that no script can read, and tells who it is.", codes: loginCodes,
	}, func(ctx context.Context, request *input[loginRequest]) (*withCookie[Me], error) {
		made, err := s.login(ctx, clientFrom(ctx), request.Body.Username, request.Body.Password)
		if err != nil {
			return nil, err
		}
		return &withCookie[Me]{s.cookie.set(made.token, made.session.ExpiresAt, s.now()), meOf(made.user, &made.session)}, nil
	})
	register(public, operation{
		id: "logout", method: http.MethodPost, path: public.base + "logout/", summary: "Log out", session: true,
		description: "Ends the session that the request carries.", status: http.StatusNoContent, codes: []string{CodeStorageFull},
	}, func(ctx context.Context, _ *nothing) (*cookieCleared, error) {
		if err := s.logout(ctx, callerFrom(ctx)); err != nil {
			return nil, err
		}
		return &cookieCleared{s.cookie.clear()}, nil
	})
	register(public, operation{
		id: "me", method: http.MethodGet, path: public.base + "me/", summary: "Who you are", session: true,
	}, func(ctx context.Context, _ *nothing) (*answer[Me], error) {
		by := callerFrom(ctx)
		return &answer[Me]{meOf(by.account, by.session)}, nil
	})
}
